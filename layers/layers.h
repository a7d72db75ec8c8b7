/* layers.h — parameters by name: layers, model families, objectives.
 *
 * A layer is a pair of functions: one declares its parameters under a dotted path, one records its
 * forward pass using them. Models are built from layers; each tensor has the name and shape Hugging
 * Face gives it (GPT-2's Conv1D weights are kept as [out,in] and transposed by io/).
 */
#ifndef QN_LAYERS_H
#define QN_LAYERS_H

#include "engine/train.h"

/* ---- init.c, dense.c: declaring and recording the common pieces ------------------------------ */

typedef struct qn_init {
    qn_init_kind kind;
    double scale;
} qn_init;

typedef struct qn_linear_spec {
    int64_t in, out;
    bool bias;
    bool hf_transposed; /* Hugging Face stores the weight as [in,out] */
    bool output;        /* the output layer: "all-linear" adapters leave it alone */
    qn_init init;
} qn_linear_spec;

/* Adds PATH.weight (out,in) and, if asked, PATH.bias (out); hf is the Hugging Face path. */
qn_status qn_dense_declare(qn_params *p, const char *path, const char *hf,
                           const qn_linear_spec *spec) QN_CHECKED;
enum { QN_MAX_GROUP = QN_ADAPTER_PARTS };
/* Linears of one input: their weights lie together, and so do their biases. */
qn_status qn_dense_group_declare(qn_params *p, int n, const char *const *paths,
                                 const char *const *hf, const qn_linear_spec *specs) QN_CHECKED;
/* act(x w^T + b) + residual with the parameters of `path`; b only if declared, w with its adapter
 * if it has one. */
qn_value *qn_dense(qn_graph *g, const char *path, qn_value *x, qn_activation act,
                   qn_value *residual);
/* out[i] = x w_i^T + b_i for linears declared as a group: one product, whose parts are views of one
 * value. Where they do not lie together, because only some are frozen, one product each. */
void qn_dense_group(qn_graph *g, int n, const char *const *paths, qn_value *x, qn_value **out);

/* PyTorch's default for nn.Linear: U(-1/sqrt(in), 1/sqrt(in)) for weight and bias. */
qn_init qn_init_torch_linear(int64_t in);

/* ---- lora.c: low-rank adapters beside the linears of a model that is declared already -------- */

typedef enum qn_lora_bias {
    QN_LORA_BIAS_NONE,
    QN_LORA_BIAS_ADAPTED,
    QN_LORA_BIAS_ALL
} qn_lora_bias;

typedef struct qn_lora_pattern { /* another rank or alpha for the linears it names */
    const char *match;
    int64_t rank; /* 0 = as all */
    double alpha; /* 0 = as all */
} qn_lora_pattern;

/* Linears are named by globs over Quern's dotted path ("blocks.*.attn.q"), Hugging Face's, or the
 * end of either after a dot ("q_proj"). Hu et al. 2021; rsLoRA: Kalajdzievski 2023; DoRA: Liu et
 * al. 2024; LoRA+: Hayou et al. 2024. */
typedef struct qn_lora_config {
    int64_t rank;
    double alpha, dropout;
    bool rslora; /* scale alpha / sqrt(rank) instead of alpha / rank */
    bool dora;
    bool gaussian;     /* A ~ N(0, 1/rank²) instead of U(±1/sqrt(in)); B = 0 either way */
    double lr_ratio;   /* LoRA+: learning rate of B, magnitudes and biases over that of A */
    qn_lora_bias bias; /* trained biases: none, of adapted linears, all */
    int n_targets;     /* "all-linear": every linear but the output layer */
    int n_patterns;    /* the first that names a linear counts */
    int n_modules_to_save;
    const char *const *targets;
    const qn_lora_pattern *patterns;
    const char *const *modules_to_save; /* modules whose own parameters are trained too */
} qn_lora_config;

/* Freezes what is declared, adds the adapters' parameters behind it, under PEFT's names as
 * hf_name, and thaws biases and modules_to_save. QN_ERR_CONFIG: a name that names nothing. */
qn_status qn_lora_declare(const qn_lora_config *c, qn_params *p) QN_CHECKED;
/* DoRA's magnitudes = the norms of the rows of the weights as they are now. */
qn_status qn_lora_init_magnitudes(qn_params *p) QN_CHECKED;
/* lora_merge.c: w += scale b a, with magnitudes each row brought to its length, for all adapters of
 * parameters on the host. Arithmetic in f64, the result rounded to `stored` before it is rounded to
 * the weights' dtype. Afterwards the model computes without adapters. */
qn_status qn_lora_merge(qn_params *p, qn_dtype stored, int threads) QN_CHECKED;
/* For dense.c: act(x w^T + the adapters + b) + residual over n linears whose weights w (and biases
 * b, or NULL) are one view; out[i] as in qn_dense_group. act and residual only for n = 1. */
void qn_lora_dense(qn_graph *g, int n, const char *const *paths, qn_value *x, qn_value *w,
                   qn_value *b, qn_activation act, qn_value *residual, qn_value **out);

/* ---- normalization.c ------------------------------------------------------------------------- */

typedef enum qn_norm_kind { QN_LAYER_NORM, QN_RMS_NORM } qn_norm_kind;
/* Adds PATH.weight (C) = 1 and, for LayerNorm with bias, PATH.bias (C) = 0. No weight decay. */
qn_status qn_norm_declare(qn_params *p, const char *path, const char *hf, qn_norm_kind kind,
                          int64_t width, bool bias) QN_CHECKED;
/* y = norm(x + residual); *sum receives x + residual (x itself without residual); sum may be
 * NULL. */
qn_value *qn_norm(qn_graph *g, const char *path, qn_norm_kind kind, double eps, qn_value *x,
                  qn_value *residual, qn_value **sum);

/* ---- heads.c: from the last hidden states to what a task needs ------------------------------- */

typedef enum qn_head {
    QN_HEAD_LM,        /* the next token */
    QN_HEAD_SEQUENCE,  /* num_labels numbers per sample */
    QN_HEAD_TOKEN,     /* num_labels numbers per token */
    QN_HEAD_MASKED_LM, /* the token itself, from both sides */
    QN_HEAD_EMBEDDING, /* the pooled hidden states, no parameters */
    QN_HEAD_COUNT
} qn_head;
/* "lm", "sequence_classification", "token_classification", "masked_lm", "embedding" */
bool qn_head_parse(const char *name, qn_head *out);

/* ---- transformer.c: the pre-norm decoder all families share ---------------------------------- */

/* Rotary positions in Hugging Face's words (its rope_scaling). Zero stands for what is absent. */
typedef enum qn_rotary_kind {
    QN_ROTARY_DEFAULT,
    QN_ROTARY_LINEAR,
    QN_ROTARY_DYNAMIC,
    QN_ROTARY_LLAMA3,
    QN_ROTARY_YARN
} qn_rotary_kind;

typedef struct qn_rotary {
    qn_rotary_kind kind;
    double theta, partial_rotary_factor, factor;
    double low_freq_factor, high_freq_factor;        /* llama3 */
    double attention_factor, mscale, mscale_all_dim; /* yarn */
    double beta_fast, beta_slow;                     /* yarn */
    bool untruncated;                                /* yarn: truncate is false */
    int64_t original_max_position_embeddings;        /* llama3, yarn */
} qn_rotary;

typedef struct qn_model_config {
    const char *type; /* "mlp", "gpt2", "llama", "mistral", "qwen2", "qwen3", "bert", "roberta" */
    /* transformers, in Hugging Face's words */
    int64_t vocab_size, hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads,
        head_dim;
    int64_t intermediate_size, max_position_embeddings;
    bool tie_word_embeddings, bias, attention_bias, mlp_bias;
    double norm_eps, initializer_range;
    qn_rotary rotary;
    int64_t sliding_window;    /* newest keys a token sees; 0 = all */
    int64_t max_window_layers; /* layers before this one see all keys in spite of it */
    const bool *sliding_layer; /* per layer, in place of max_window_layers; NULL = absent */
    bool unscaled_attention;   /* scores are q.k, not q.k / sqrt(head_dim) (GPT-2) */
    bool scale_by_layer;       /* scores are divided by layer + 1 too (GPT-2) */
    qn_activation activation;
    double dropout, attention_dropout, embedding_dropout;
    /* encoders: position 0 is row position_offset of the table of max_position_embeddings rows */
    int64_t type_vocab_size, position_offset;
    /* heads */
    qn_head head;
    int64_t num_labels;
    qn_pooling pooling; /* of the embedding head */
    double classifier_dropout;
    /* mlp */
    int n_hidden;
    int64_t hidden_sizes[16];
    int64_t features, classes; /* set from the data */
} qn_model_config;

typedef struct qn_block { /* what differs between families */
    const qn_model_config *c;
    qn_norm_kind norm;
    const qn_rope_attrs *rotary; /* NULL = learned positions */
    bool gated;                  /* SwiGLU feed-forward */
    bool bidirectional;          /* tokens see what follows them too */
    bool fused_qkv;              /* one qkv projection (GPT-2) or separate q, k, v */
} qn_block;

/* rotary.c: the turns of heads of head_dim at positions below `length`, which only the kind dynamic
 * looks at, beyond max_position_embeddings. */
qn_status qn_rotary_table(const qn_model_config *c, int64_t length, qn_rope_attrs *out) QN_CHECKED;
/* The longest sequence the positions are made for: max_position_embeddings, or what the rotary kind
 * extends it to. */
int64_t qn_rotary_reach(const qn_model_config *c);

/* Token ids (B,T) -> what qn_head_forward fills out with: embedding of the tokens, and of
 * their positions unless they are rotary, in scope embed; each block in scope blocks.N with attn
 * and mlp inside; the last norm. Parameters: embed.token, embed.position, blocks.N, norm, head.
 * Fields of `in`: "positions" (B,T) i32 instead of start, start + 1, ...; "documents" (B,T) i32, a
 * token sees only its own; negative: padding. */
qn_status qn_transformer_forward(const qn_block *b, qn_graph *g, const qn_forward *in,
                                 qn_output *out) QN_CHECKED;
/* Adds the parameter `name` (rows, C), drawn normally with initializer_range. */
qn_status qn_embedding_declare(qn_params *p, const qn_model_config *c, const char *name,
                               const char *hf_name, int64_t rows) QN_CHECKED;
/* encoder.c: the same with post-norm blocks, parameters embed.type and embed.norm, no norm. A
 * third field of `in`: "token_types" (B,T) i32, the segment of a pair of texts. */
qn_status qn_encoder_forward(const qn_block *b, qn_graph *g, const qn_forward *in,
                             qn_output *out) QN_CHECKED;
/* heads.c. Adds the parameters of c->head as the family has them: head.dense, head.norm, head; no
 * head.weight if the embedding of the tokens is the output layer too. QN_ERR_CONFIG if the family
 * has no such head. */
qn_status qn_head_declare(qn_params *p, const qn_model_config *c) QN_CHECKED;
/* hidden (B,T,C), the last layer's; table: the embedding of the tokens. Fills out: hidden and
 * head_weight (and head_bias) over the vocabulary, else logits (B, num_labels) or
 * (B, T, num_labels), or the pooled (B, C). */
qn_status qn_head_forward(const qn_model_config *c, qn_graph *g, const qn_forward *in,
                          qn_value *hidden, qn_value *table, qn_output *out) QN_CHECKED;
typedef struct qn_block_linear {
    const char *path, *hf; /* "attn.q", "self_attn.q_proj" */
    int64_t in, out;
    bool bias;
} qn_block_linear;
/* Adds blocks.N.PATH, Hugging Face's LAYERS.N.HF: linears of one input, as a group. */
qn_status qn_block_declare(qn_params *p, const qn_model_config *c, int n, const char *layers,
                           int count, const qn_block_linear *linears) QN_CHECKED;
/* The members that follow from the configuration; declare and forward are the family's. */
qn_model qn_transformer_model(const qn_model_config *c);
/* self_attention.c: o = attention(norm'ed x), before the output projection's residual. */
qn_value *qn_self_attention(qn_graph *g, const qn_block *b, int layer, qn_value *x,
                            const qn_forward *in);
/* feed_forward.c: down(act(up x)) or down(silu(gate x) * up x), plus residual (B,T,C). */
qn_value *qn_feed_forward(qn_graph *g, const qn_block *b, int layer, qn_value *x,
                          qn_value *residual);

/* ---- models and objectives ------------------------------------------------------------------- */

/* Each fills a qn_model whose self is the config, which must outlive it. Sizes are checked by
 * io/config.c. */
void qn_model_mlp(const qn_model_config *c, qn_model *out);
void qn_model_gpt2(const qn_model_config *c, qn_model *out);
void qn_model_llama(const qn_model_config *c, qn_model *out); /* and mistral, qwen2, qwen3 */
void qn_model_bert(const qn_model_config *c, qn_model *out);  /* and RoBERTa */
qn_status qn_model_create(const qn_model_config *c, qn_model *out) QN_CHECKED; /* by c->type */

typedef struct qn_objective_config {
    double label_smoothing;
    int64_t chunk;   /* rows of logits held at once; 0 = chosen by shape */
    int64_t classes; /* classify: 0 = unknown, evaluation then reports the accuracy alone */
} qn_objective_config;
/* objective.c. "lm" (the target token, fused linear + cross-entropy) and "classify" (one class):
 * targets i32, of samples or tokens, QN_IGNORE_INDEX counts nowhere. "multi_label" (each class for
 * itself) and "regress" (squared error): targets f32 like the outputs, every number counts as one
 * in 1/N, a row whose first is NaN counts nowhere. Evaluation of "classify" reports eval/accuracy,
 * and of up to 256 classes eval/f1_macro and eval/mcc. */
qn_status qn_objective_create(const char *type, const qn_objective_config *c,
                              qn_objective *out) QN_CHECKED;

#endif
