/* config_templates.c — starter files: settings given here, comments from the table of keys. */
#include "io/config_table.h"

#include <string.h>

typedef struct setting {
    const char *key, *json;
} setting;

typedef struct starter {
    const char *name, *summary;
    const char *before;      /* what to do before the first run */
    const setting *settings; /* ends with a NULL key */
} starter;

static const setting quickstart[] = {
    {"model.type", "\"gpt2\""},
    {"model.hidden_size", "128"},
    {"model.num_hidden_layers", "4"},
    {"model.num_attention_heads", "4"},
    {"data.type", "\"text\""},
    {"data.path", "\".\""},
    {"data.include", "[\"*.txt\", \"*.md\"]"},
    {"data.block_size", "128"},
    {"train.max_steps", "600"},
    {"train.batch_size", "16"},
    {"optimizer.lr", "1e-3"},
    {"eval.every", "100"},
    {0},
};

static const setting mlp_idx[] = {
    {"model.type", "\"mlp\""},
    {"model.hidden_sizes", "[256, 128]"},
    {"model.dropout", "0.2"},
    {"data.type", "\"idx\""},
    {"data.images", "\"train-images-idx3-ubyte.gz\""},
    {"data.labels", "\"train-labels-idx1-ubyte.gz\""},
    {"data.val_fraction", "0.1"},
    {"data.normalize.mean", "0.1307"},
    {"data.normalize.std", "0.3081"},
    {"train.epochs", "20"},
    {"train.batch_size", "64"},
    {"optimizer.lr", "1e-3"},
    {"early_stopping.monitor", "\"eval/accuracy\""},
    {"early_stopping.patience", "5"},
    {"eval.every", "500"},
    {0},
};

static const setting gpt2_text[] = {
    {"run.seed", "1337"},
    {"precision", "\"f32\""},
    {"model.type", "\"gpt2\""},
    {"model.hidden_size", "384"},
    {"model.num_hidden_layers", "6"},
    {"model.num_attention_heads", "6"},
    {"model.dropout", "0.2"},
    {"data.type", "\"text\""},
    {"data.path", "\"corpus.txt\""},
    {"data.vocabulary", "\"char\""},
    {"data.block_size", "256"},
    {"data.val_fraction", "0.1"},
    {"train.max_steps", "5000"},
    {"train.batch_size", "16"},
    {"train.accumulate", "4"},
    {"train.clip_norm", "1"},
    {"optimizer.type", "\"adamw\""},
    {"optimizer.lr", "1e-3"},
    {"optimizer.betas", "[0.9, 0.99]"},
    {"optimizer.weight_decay", "0.1"},
    {"scheduler.type", "\"cosine\""},
    {"scheduler.warmup_steps", "100"},
    {"scheduler.min_lr", "1e-4"},
    {"early_stopping.patience", "8"},
    {"checkpoint.every", "500"},
    {"eval.every", "250"},
    {0},
};

static const setting llama_tokens[] = {
    {"precision", "\"bf16\""},
    {"model.type", "\"llama\""},
    {"model.hidden_size", "512"},
    {"model.num_hidden_layers", "8"},
    {"model.num_attention_heads", "8"},
    {"model.num_key_value_heads", "2"},
    {"model.intermediate_size", "1408"},
    {"model.rope_theta", "10000"},
    {"data.type", "\"tokens\""},
    {"data.path", "\"train*.bin\""},
    {"data.val_path", "\"val*.bin\""},
    {"data.block_size", "1024"},
    {"train.max_steps", "20000"},
    {"train.batch_size", "4"},
    {"train.global_batch_size", "32"},
    {"train.recompute", "[]"},
    {"optimizer.lr", "6e-4"},
    {"optimizer.betas", "[0.9, 0.95]"},
    {"optimizer.weight_decay", "0.1"},
    {"scheduler.type", "\"cosine\""},
    {"scheduler.warmup_ratio", "0.03"},
    {"scheduler.min_lr", "6e-5"},
    {"checkpoint.every", "1000"},
    {"eval.every", "500"},
    {"eval.batches", "50"},
    {0},
};

static const setting lora[] = {
    {"precision", "\"bf16\""},
    {"model.pretrained", "\"./model\""},
    {"adapter.type", "\"lora\""},
    {"adapter.r", "16"},
    {"adapter.alpha", "32"},
    {"adapter.dropout", "0.05"},
    {"adapter.targets", "[\"all-linear\"]"},
    {"data.type", "\"conversations\""},
    {"data.path", "\"train.jsonl\""},
    {"data.val_fraction", "0.05"},
    {"data.truncate", "\"right\""},
    {"train.epochs", "3"},
    {"train.batch_size", "4"},
    {"train.accumulate", "4"},
    {"train.clip_norm", "1"},
    {"optimizer.lr", "2e-4"},
    {"optimizer.weight_decay", "0"},
    {"scheduler.type", "\"cosine\""},
    {"scheduler.warmup_ratio", "0.03"},
    {"early_stopping.monitor", "\"eval/loss\""},
    {"early_stopping.patience", "3"},
    {"eval.every", "50"},
    {0},
};

static const setting finetune[] = {
    {"precision", "\"bf16\""},
    {"model.pretrained", "\"./model\""},
    {"data.type", "\"conversations\""},
    {"data.path", "\"train.jsonl\""},
    {"data.val_fraction", "0.05"},
    {"data.truncate", "\"right\""},
    {"train.epochs", "3"},
    {"train.batch_size", "2"},
    {"train.accumulate", "8"},
    {"train.clip_norm", "1"},
    {"train.recompute", "[]"},
    {"optimizer.lr", "1e-5"},
    {"optimizer.betas", "[0.9, 0.95]"},
    {"optimizer.weight_decay", "0.01"},
    {"scheduler.type", "\"cosine\""},
    {"scheduler.warmup_ratio", "0.04"},
    {"early_stopping.monitor", "\"eval/loss\""},
    {"early_stopping.patience", "3"},
    {"eval.every", "50"},
    {0},
};

static const setting classify_text[] = {
    {"model.pretrained", "\"./model\""},
    {"model.head", "\"sequence_classification\""},
    {"data.type", "\"labelled_text\""},
    {"data.path", "\"train.jsonl\""},
    {"data.val_fraction", "0.1"},
    {"data.truncate", "\"right\""},
    {"train.epochs", "4"},
    {"train.batch_size", "16"},
    {"train.clip_norm", "1"},
    {"optimizer.lr", "2e-5"},
    {"optimizer.weight_decay", "0.01"},
    {"scheduler.type", "\"linear\""},
    {"scheduler.warmup_ratio", "0.05"},
    {"early_stopping.monitor", "\"eval/loss\""},
    {"early_stopping.patience", "3"},
    {"eval.every", "100"},
    {0},
};

static const starter starters[] = {
    {"quickstart", "a small byte-level GPT on the text files of a directory",
     "Put it beside some .txt or .md files.", quickstart},
    {"mlp_idx", "a classifier on images in the IDX format, such as MNIST",
     "Put the image and label files beside it.", mlp_idx},
    {"gpt2_text", "a character-level GPT-2 on one text file",
     "Put your text beside it as corpus.txt.", gpt2_text},
    {"llama_tokens", "a Llama on token files", "Put token files train*.bin and val*.bin beside it.",
     llama_tokens},
    {"lora", "a pretrained model taught by examples, with small adapters (LoRA)",
     "Put a model's directory beside it as model/, and examples as train.jsonl.", lora},
    {"finetune", "a pretrained model taught by examples, all of its weights",
     "Put a model's directory beside it as model/, and examples as train.jsonl.", finetune},
    {"classify_text", "a pretrained model that learns to classify texts",
     "Put a model beside it as model/, and texts with labels as train.jsonl.", classify_text},
};
enum { N_STARTERS = sizeof starters / sizeof *starters, COMMENT_WIDTH = 92 };

static const char *setting_of(const starter *s, const char *key) {
    for (const setting *e = s->settings; e->key; e++) {
        if (strcmp(e->key, key) == 0) return e->json;
    }
    return NULL;
}

static bool used(const starter *s, int row) {
    if (qni_keys[row].type != QNI_SECTION) return setting_of(s, qni_keys[row].name) != NULL;
    for (int i = row + 1; i < qni_key_count; i++) {
        if (qni_key_in(i, row) && used(s, i)) return true;
    }
    return false;
}

/* A paragraph as `//` lines. */
static void add_comment(qn_text *t, const char *text, int indent) {
    for (const char *s = text; *s;) {
        size_t length = strlen(s), width = (size_t)(COMMENT_WIDTH - 2 * indent);
        if (length > width) {
            length = width;
            while (length > 0 && s[length] != ' ') length--;
            if (length == 0) length = strcspn(s, " ");
        }
        qn_text_pad(t, (size_t)indent * 2, ' ');
        qn_text_add(t, "// ");
        qn_text_add_bytes(t, s, length);
        qn_text_add(t, "\n");
        s += length;
        s += strspn(s, " ");
    }
}

static void add_section(qn_text *t, const starter *s, int parent, int indent) {
    bool first = true;
    for (int i = 0; i < qni_key_count; i++) {
        const qni_key *k = &qni_keys[i];
        if (!qni_key_in(i, parent) || !used(s, i)) continue;
        qn_text_add(t, first ? "" : ",\n");
        if (k->type == QNI_SECTION && indent == 1 && !first) qn_text_add(t, "\n");
        add_comment(t, k->doc, indent);
        qn_text_pad(t, (size_t)indent * 2, ' ');
        qn_text_printf(t, "\"%s\": ", qni_key_leaf(k));
        if (k->type == QNI_SECTION) {
            qn_text_add(t, "{\n");
            add_section(t, s, i, indent + 1);
            qn_text_pad(t, (size_t)indent * 2, ' ');
            qn_text_add(t, "}");
        } else {
            qn_text_add(t, setting_of(s, k->name));
        }
        first = false;
    }
    qn_text_add(t, "\n");
}

int qn_config_template_count(void) { return N_STARTERS; }

const char *qn_config_template_name(int i) {
    return i >= 0 && i < N_STARTERS ? starters[i].name : NULL;
}

const char *qn_config_template_summary(int i) {
    return i >= 0 && i < N_STARTERS ? starters[i].summary : NULL;
}

qn_status qn_config_template(const char *name, char **out) {
    qn_text t = {0};
    for (int i = 0; i < N_STARTERS; i++) {
        const starter *s = &starters[i];
        if (strcmp(s->name, name) != 0) continue;
        qn_text_printf(&t, "// Quern: %s.\n// %s Then: quern train FILE\n", s->summary, s->before);
        qn_text_add(&t,
                    "// All keys: quern config reference. With defaults filled in: quern config "
                    "show FILE\n{\n");
        add_section(&t, s, -1, 1);
        qn_text_add(&t, "}\n");
        return qn_text_take(&t, out);
    }
    qn_text_printf(&t, "init: no template `%.100s`, expected one of", name);
    for (int i = 0; i < N_STARTERS; i++)
        qn_text_printf(&t, "%s %s", i ? "," : "", starters[i].name);
    char *message;
    QN_TRY(qn_text_take(&t, &message));
    qn_status status = qn_fail(QN_ERR_USAGE, "%s", message);
    qn_free(message);
    return status;
}
