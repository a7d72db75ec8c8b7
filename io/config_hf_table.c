/* config_hf_table.c — the keys, activations and architectures of Hugging Face's config.json. */
#include "io/config_hf.h"

#include <stdio.h>
#include <string.h>

#define DECODERS QNI_HF_DECODERS
#define ENCODERS QNI_HF_ENCODERS

const qni_hf_key qni_hf_keys[] = {
    {"gpt2", "vocab_size", "model.vocab_size", "50257", NULL},
    {"llama|mistral", "vocab_size", "model.vocab_size", "32000", NULL},
    {"qwen2|qwen3", "vocab_size", "model.vocab_size", "151936", NULL},
    {"bert", "vocab_size", "model.vocab_size", "30522", NULL},
    {"roberta", "vocab_size", "model.vocab_size", "50265", NULL},
    {"gpt2", "n_embd|hidden_size", "model.hidden_size", "768", NULL},
    {DECODERS, "hidden_size", "model.hidden_size", "4096", NULL},
    {ENCODERS, "hidden_size", "model.hidden_size", "768", NULL},
    {"gpt2", "n_layer|num_hidden_layers", "model.num_hidden_layers", "12", NULL},
    {DECODERS, "num_hidden_layers", "model.num_hidden_layers", "32", NULL},
    {ENCODERS, "num_hidden_layers", "model.num_hidden_layers", "12", NULL},
    {"gpt2", "n_head|num_attention_heads", "model.num_attention_heads", "12", NULL},
    {DECODERS, "num_attention_heads", "model.num_attention_heads", "32", NULL},
    {ENCODERS, "num_attention_heads", "model.num_attention_heads", "12", NULL},
    {"llama", "num_key_value_heads", "model.num_key_value_heads", NULL, NULL},
    {"qwen2|qwen3", "num_key_value_heads", "model.num_key_value_heads", "32", NULL},
    {"mistral", "num_key_value_heads", "model.num_key_value_heads", "8", NULL},
    {"llama|mistral|qwen2", "head_dim", "model.head_dim", NULL, NULL},
    {"qwen3", "head_dim", "model.head_dim", "128", NULL},
    {"gpt2", "n_inner", "model.intermediate_size", NULL, NULL},
    {"llama", "intermediate_size", "model.intermediate_size", "11008", NULL},
    {"qwen2|qwen3", "intermediate_size", "model.intermediate_size", "22016", NULL},
    {"mistral", "intermediate_size", "model.intermediate_size", "14336", NULL},
    {ENCODERS, "intermediate_size", "model.intermediate_size", "3072", NULL},
    {"gpt2", "n_positions|n_ctx|max_position_embeddings", "model.max_position_embeddings", "1024",
     NULL},
    {"llama", "max_position_embeddings", "model.max_position_embeddings", "2048", NULL},
    {"qwen2|qwen3", "max_position_embeddings", "model.max_position_embeddings", "32768", NULL},
    {"mistral", "max_position_embeddings", "model.max_position_embeddings", "131072", NULL},
    {ENCODERS, "max_position_embeddings", "model.max_position_embeddings", "512", NULL},
    {"gpt2|" ENCODERS, "tie_word_embeddings", "model.tie_word_embeddings", "true", NULL},
    {DECODERS, "tie_word_embeddings", "model.tie_word_embeddings", "false", NULL},
    {"gpt2", "layer_norm_epsilon", "model.layer_norm_eps", "1e-5", NULL},
    {ENCODERS, "layer_norm_eps", "model.layer_norm_eps", "1e-12", NULL},
    {DECODERS, "rms_norm_eps", "model.rms_norm_eps", "1e-6", NULL},
    {"gpt2", "activation_function", "model.activation", "\"gelu_tanh\"", NULL},
    {DECODERS, "hidden_act", "model.activation", "\"silu\"", NULL},
    {ENCODERS, "hidden_act", "model.activation", "\"gelu\"", NULL},
    {"gpt2", "resid_pdrop", "model.dropout", "0.1", NULL},
    {"gpt2", "embd_pdrop", "model.embedding_dropout", "0.1", NULL},
    {"gpt2", "attn_pdrop", "model.attention_dropout", "0.1", NULL},
    {ENCODERS, "hidden_dropout_prob", "model.dropout", "0.1", NULL},
    {ENCODERS, "attention_probs_dropout_prob", "model.attention_dropout", "0.1", NULL},
    {ENCODERS, "classifier_dropout", "model.classifier_dropout", NULL, NULL},
    {DECODERS, "attention_dropout", "model.attention_dropout", "0", NULL},
    {"gpt2|" DECODERS "|" ENCODERS, "initializer_range", "model.initializer_range", "0.02", NULL},
    {"llama|qwen3", "attention_bias", "model.attention_bias", NULL, "false"},
    {"llama", "mlp_bias", "model.mlp_bias", NULL, "false"},
    {"mistral", "sliding_window", "model.sliding_window", "4096", NULL},
    {"qwen2|qwen3", "sliding_window", "model.sliding_window", "4096", NULL},
    {"qwen2|qwen3", "use_sliding_window", "model.use_sliding_window", NULL, "false"},
    {"qwen2|qwen3", "max_window_layers", "model.max_window_layers", NULL, NULL},
    {"qwen2|qwen3", "layer_types", "model.layer_types", NULL, NULL},
    {"gpt2", "scale_attn_weights", "model.scale_attn_weights", NULL, "true"},
    {"gpt2", "scale_attn_by_inverse_layer_idx", "model.scale_attn_by_inverse_layer_idx", NULL,
     "false"},
    {ENCODERS, "type_vocab_size", "model.type_vocab_size", "2", NULL},
    {"roberta", "pad_token_id", "model.pad_token_id", "1", "1"},
    /* what has no key: other values than these are another model */
    {"gpt2", "add_cross_attention", "", NULL, "false"},
    {ENCODERS, "is_decoder", "", NULL, "false"},
    {ENCODERS, "position_embedding_type", "", NULL, "\"absolute\""},
};
const int qni_hf_key_count = (int)(sizeof qni_hf_keys / sizeof qni_hf_keys[0]);

bool qni_hf_is_one_of(const char *word, const char *list) {
    size_t n = strlen(word);
    for (const char *s = list;; s += strcspn(s, "|") + 1) {
        if (strcspn(s, "|") == n && strncmp(s, word, n) == 0) return true;
        if (!s[strcspn(s, "|")]) return false;
    }
}

cJSON *qni_hf_member(const cJSON *root, const char *names) {
    for (const char *s = names;; s += strcspn(s, "|") + 1) {
        size_t n = strcspn(s, "|");
        for (cJSON *m = root->child; m; m = m->next)
            if (strncmp(m->string, s, n) == 0 && !m->string[n]) return m;
        if (!s[n]) return NULL;
    }
}

/* ---- activations ----------------------------------------------------------------------------- */

const char *qni_hf_activation(const char *hf) {
    if (qni_hf_is_one_of(hf, "gelu_new|gelu_pytorch_tanh|gelu_fast")) return "gelu_tanh";
    return strcmp(hf, "swish") == 0 ? "silu" : hf;
}

const char *qni_hf_activation_name(const char *ours, const char *family) {
    if (strcmp(ours, "gelu_tanh") != 0) return ours;
    return strcmp(family, "gpt2") == 0 ? "gelu_new" : "gelu_pytorch_tanh";
}

/* ---- architectures --------------------------------------------------------------------------- */

static const struct {
    const char *ending, *head; /* the first of a head is what is written */
    const char *families;      /* NULL = all */
} endings[] = {
    {"LMHeadModel", "lm", "gpt2"},
    {"ForCausalLM", "lm", QNI_HF_DECODERS},
    {"ForSequenceClassification", "sequence_classification", NULL},
    {"ForTokenClassification", "token_classification", NULL},
    {"ForMaskedLM", "masked_lm", QNI_HF_ENCODERS},
    {"ForPreTraining", "masked_lm", "bert"},
    {"LMHeadModel", "masked_lm", "bert"},
    {"ForCausalLM", "masked_lm", "roberta"},
    {"Model", "lm", QNI_HF_DECODERS}, /* read only: a decoder without a head gets the usual one */
    {"Model", "embedding", NULL},
};

static const struct {
    const char *family, *prefix;
} families[] = {{"gpt2", "GPT2"},   {"llama", "Llama"}, {"mistral", "Mistral"}, {"qwen2", "Qwen2"},
                {"qwen3", "Qwen3"}, {"bert", "Bert"},   {"roberta", "Roberta"}};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

const char *qni_hf_head(const char *architecture) {
    for (int f = 0; f < N_FAMILIES; f++) {
        size_t n = strlen(families[f].prefix);
        if (strncmp(architecture, families[f].prefix, n) != 0) continue;
        for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
            const char *only = endings[i].families;
            if (strcmp(architecture + n, endings[i].ending) == 0 &&
                (!only || qni_hf_is_one_of(families[f].family, only)))
                return strcmp(endings[i].ending, "Model") == 0 &&
                               !qni_hf_is_one_of(families[f].family, ENCODERS)
                           ? NULL /* a decoder's body: it may well be wanted as a language model */
                           : endings[i].head;
        }
    }
    return NULL;
}

bool qni_hf_architecture(const char *family, const char *head, char out[64]) {
    for (int f = 0; f < N_FAMILIES; f++) {
        if (strcmp(families[f].family, family) != 0) continue;
        for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
            const char *only = endings[i].families;
            if (strcmp(endings[i].head, head) != 0 || (only && !qni_hf_is_one_of(family, only)))
                continue;
            snprintf(out, 64, "%s%s", families[f].prefix, endings[i].ending);
            return true;
        }
    }
    return false;
}
