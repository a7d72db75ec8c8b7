/* cudart_graph.c — graphs: what a capture recorded, made executable, launched, replaced. */
#include "kernels/emu/cudart.h"

#include <stdlib.h>
#include <string.h>

typedef struct executable {
    qe_graph *graph;
} executable;

/* ---- nodes ----------------------------------------------------------------------------------- */

qe_graph *qe_graph_new(void) {
    qe_graph *g = calloc(1, sizeof *g);
    if (g) g->refs = 1;
    return g;
}

void qe_graph_drop(qe_graph *g) {
    if (!g || --g->refs > 0) return;
    for (uint32_t i = 0; i < g->n; i++) {
        qe_op_drop(g->nodes[i].op);
        free(g->nodes[i].after);
    }
    free(g->nodes);
    free(g);
}

uint32_t qe_graph_add(qe_graph *g, qe_op *op, const uint32_t *after, uint32_t n_after) {
    uint32_t *own = malloc((n_after + 1) * sizeof *own);
    if (own && g->n == g->capacity) {
        uint32_t wider = g->capacity ? 2 * g->capacity : 16;
        qe_node *nodes = realloc(g->nodes, wider * sizeof *nodes);
        if (nodes) {
            g->nodes = nodes;
            g->capacity = wider;
        }
    }
    if (!own || g->n == g->capacity) {
        free(own);
        qe_op_drop(op);
        return UINT32_MAX;
    }
    if (n_after) memcpy(own, after, n_after * sizeof *own);
    g->nodes[g->n] = (qe_node){op, own, n_after};
    return g->n++;
}

/* ---- execution ------------------------------------------------------------------------------- */

static bool depends_on(const qe_node *node, uint32_t other) {
    for (uint32_t k = 0; k < node->n_after; k++) {
        if (node->after[k] == other) return true;
    }
    return false;
}

/* In a random order that the edges allow: what has no edge to it may run at any time. */
static bool run_shuffled(const qe_graph *g) {
    uint32_t *missing = malloc((g->n + 1) * sizeof *missing);
    uint32_t *ready = malloc((g->n + 1) * sizeof *ready), n_ready = 0;
    bool can = missing && ready;
    for (uint32_t i = 0; can && i < g->n; i++) {
        missing[i] = g->nodes[i].n_after;
        if (missing[i] == 0) ready[n_ready++] = i;
    }
    while (can && n_ready > 0) {
        uint32_t at = qe_random(n_ready), i = ready[at];
        ready[at] = ready[--n_ready];
        qe_op_run(g->nodes[i].op);
        for (uint32_t j = i + 1; j < g->n; j++) {
            if (depends_on(&g->nodes[j], i) && --missing[j] == 0) ready[n_ready++] = j;
        }
    }
    free(missing);
    free(ready);
    return can;
}

void qe_graph_run(const qe_graph *g) {
    if (qe_cfg.streams == QE_ANY_TIME && run_shuffled(g)) return;
    for (uint32_t i = 0; i < g->n; i++) qe_op_run(g->nodes[i].op);
}

/* ---- the calls ------------------------------------------------------------------------------- */

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    if (!graph) return qe_error(cudaErrorInvalidValue);
    qe_graph_drop((qe_graph *)graph);
    return cudaSuccess;
}

/* Nodes are handles only: no call takes one. */
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n) {
    const qe_graph *g = (const qe_graph *)graph;
    if (!g || !n) return qe_error(cudaErrorInvalidValue);
    if (nodes) {
        if (*n > g->n) *n = g->n;
        for (size_t i = 0; i < *n; i++) nodes[i] = (cudaGraphNode_t)&g->nodes[i];
    } else {
        *n = g->n;
    }
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph,
                                          unsigned long long flags) {
    (void)flags;
    cudaError_t e = qe_enter();
    if (e) return e;
    if (!graph || !out) return qe_error(cudaErrorInvalidValue);
    executable *x = malloc(sizeof *x);
    if (!x) return qe_error(cudaErrorMemoryAllocation);
    x->graph = (qe_graph *)graph;
    x->graph->refs++;
    *out = (cudaGraphExec_t)x;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags) {
    return cudaGraphInstantiateWithFlags(out, graph, flags);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    cudaError_t e = qe_enter();
    if (e) return e;
    const executable *x = (const executable *)exec;
    qe_stream *s = qe_stream_of(stream);
    if (!x) return qe_error(cudaErrorInvalidValue);
    if (!s) return qe_error(cudaErrorInvalidResourceHandle);
    qe_op *op = qe_op_new(QE_OP_GRAPH);
    if (op) {
        op->u.graph = x->graph;
        x->graph->refs++;
    }
    return qe_submit(s, op);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
    cudaError_t e = qe_enter();
    if (e) return e;
    if (!exec) return qe_error(cudaErrorInvalidValue);
    return qe_stream_of(stream) ? cudaSuccess : qe_error(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    executable *x = (executable *)exec;
    if (!x) return qe_error(cudaErrorInvalidValue);
    qe_graph_drop(x->graph);
    free(x);
    return cudaSuccess;
}

static enum cudaGraphExecUpdateResult compare(const qe_graph *old, const qe_graph *new,
                                              uint32_t *at) {
    *at = UINT32_MAX;
    if (old->n != new->n) return cudaGraphExecUpdateErrorTopologyChanged;
    for (uint32_t i = 0; i < old->n; i++) {
        const qe_node *a = &old->nodes[i], *b = &new->nodes[i];
        *at = i;
        if (a->op->kind != b->op->kind) return cudaGraphExecUpdateErrorNodeTypeChanged;
        if (a->n_after != b->n_after) return cudaGraphExecUpdateErrorTopologyChanged;
        for (uint32_t k = 0; k < a->n_after; k++) {
            if (a->after[k] != b->after[k]) return cudaGraphExecUpdateErrorTopologyChanged;
        }
    }
    return cudaGraphExecUpdateSuccess;
}

/* Launches that are queued already keep what they had. */
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *info) {
    cudaError_t e = qe_enter();
    if (e) return e;
    executable *x = (executable *)exec;
    qe_graph *g = (qe_graph *)graph;
    uint32_t at;
    if (!x || !g || !info) return qe_error(cudaErrorInvalidValue);
    memset(info, 0, sizeof *info);
    info->result = compare(x->graph, g, &at);
    if (info->result != cudaGraphExecUpdateSuccess) {
        if (at < g->n) info->errorNode = (cudaGraphNode_t)&g->nodes[at];
        return qe_error(cudaErrorGraphExecUpdateFailure);
    }
    qe_graph_drop(x->graph);
    x->graph = g;
    g->refs++;
    return cudaSuccess;
}
