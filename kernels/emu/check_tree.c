/* check_tree.c — maps from agents to epochs, as trees that share what they have in common.
 *
 * Level 0 is a leaf of 32 lanes, level 1 a block: leaves of threads, of their copies and of the
 * pool, and a floor for all threads. Above it each node has 32 children, as many levels as the grid
 * needs. Nodes live as long as the launch; the next one uses their memory again.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/checker.h"

enum {
    FAN = 32,
    FAN_BITS = 5,
    LEAF = 32,
    POOL_LEAVES = QE_POOL / LEAF,
    CHUNK = 1 << 18,
    MEMOS = 8,
    RAISES = 32
};

typedef struct chunk {
    struct chunk *next;
    char bytes[CHUNK];
} chunk;

static struct {
    uint32_t top;      /* level of the roots */
    uint32_t warps;    /* of a block */
    uint32_t children; /* of a block's node */
    uint32_t size[3];  /* bytes of a node: leaf, block, above */
    qe_node *free[3];
    chunk *first, *now; /* chunks in use, and the one that is being filled */
    uint32_t used;
    struct {
        qe_node *a, *b, *joined;
    } memo[MEMOS];
    struct {
        qe_node *a, *raised;
        uint32_t agent, epoch;
    } raises[RAISES];
} trees;

static qe_node **child_of(const qe_node *n) { return (qe_node **)(n + 1); }
static uint32_t *lane_of(const qe_node *n) { return (uint32_t *)(n + 1); }
static uint32_t kind_of(uint32_t level) { return level < 2 ? level : 2; }
static uint32_t width_of(uint32_t level) { return level == 1 ? trees.children : FAN; }

void qe_tree_begin(uint32_t blocks, uint32_t threads) {
    trees.top = 1;
    for (uint64_t n = 1; n < blocks; n *= FAN) trees.top++;
    trees.warps = (threads + LEAF - 1) / LEAF;
    trees.children = 2 * trees.warps + POOL_LEAVES;
    trees.size[0] = sizeof(qe_node) + LEAF * sizeof(uint32_t);
    trees.size[1] = (uint32_t)(sizeof(qe_node) + trees.children * sizeof(qe_node *));
    trees.size[2] = sizeof(qe_node) + FAN * sizeof(qe_node *);
    memset(trees.free, 0, sizeof trees.free);
    memset(trees.memo, 0, sizeof trees.memo);
    memset(trees.raises, 0, sizeof trees.raises);
    trees.now = trees.first;
    trees.used = 0;
}

static char *from_chunk(uint32_t bytes) {
    if (!trees.now || trees.used + bytes > CHUNK) {
        chunk *next = trees.now ? trees.now->next : trees.first;
        if (!next) {
            next = malloc(sizeof *next);
            if (!next) abort();
            next->next = NULL;
            if (trees.now)
                trees.now->next = next;
            else
                trees.first = next;
        }
        trees.now = next;
        trees.used = 0;
    }
    char *p = trees.now->bytes + trees.used;
    trees.used += bytes;
    return p;
}

static qe_node *new_node(uint32_t level) {
    uint32_t kind = kind_of(level);
    qe_node *n = trees.free[kind];
    if (n)
        trees.free[kind] = child_of(n)[0];
    else
        n = (qe_node *)from_chunk(trees.size[kind]);
    n->refs = 1;
    return n;
}

static void drop(qe_node *n, uint32_t level) {
    if (!n || --n->refs) return;
    if (level)
        for (uint32_t i = 0; i < width_of(level); i++) drop(child_of(n)[i], level - 1);
    child_of(n)[0] = trees.free[kind_of(level)];
    trees.free[kind_of(level)] = n;
}
void qe_tree_unref(qe_node *n) { drop(n, trees.top); }

/* *n becomes a node that only the caller holds. */
static qe_node *own(qe_node **n, uint32_t level) {
    qe_node *old = *n;
    if (old && old->refs == 1) return old;
    qe_node *copy = new_node(level);
    if (!old) {
        memset(copy + 1, 0, trees.size[kind_of(level)] - sizeof *copy);
        copy->floor = 0;
    } else {
        memcpy(copy + 1, old + 1, trees.size[kind_of(level)] - sizeof *copy);
        copy->floor = old->floor;
        if (level)
            for (uint32_t i = 0; i < width_of(level); i++) qe_tree_ref(child_of(copy)[i]);
        old->refs--;
    }
    *n = copy;
    return copy;
}

/* ---- places ---------------------------------------------------------------------------------- */

static uint32_t leaf_of(uint32_t index) {
    uint32_t leaf = index / LEAF;
    if (index < QE_FIRST_COPIES) return leaf;
    if (index < QE_FIRST_POOL) return trees.warps + leaf - QE_FIRST_COPIES / LEAF;
    return 2 * trees.warps + leaf - QE_FIRST_POOL / LEAF;
}
static uint32_t branch_of(uint32_t block, uint32_t level) {
    return block >> (level - 2) * FAN_BITS & (FAN - 1);
}

const qe_node *qe_tree_block(const qe_node *n, uint32_t block) {
    for (uint32_t level = trees.top; n && level > 1; level--)
        n = child_of(n)[branch_of(block, level)];
    return n;
}

uint32_t qe_tree_block_at(const qe_node *n, uint32_t index) {
    if (!n) return 0;
    const qe_node *leaf = child_of(n)[leaf_of(index)];
    uint32_t lane = leaf ? lane_of(leaf)[index % LEAF] : 0;
    return index < QE_FIRST_COPIES && n->floor > lane ? n->floor : lane;
}

uint32_t qe_tree_at(const qe_node *root, uint32_t agent) {
    return qe_tree_block_at(qe_tree_block(root, qe_agent_block(agent)), qe_agent_index(agent));
}

static qe_node *own_block(qe_node **n, uint32_t block) {
    for (uint32_t level = trees.top; level > 1; level--)
        n = &child_of(own(n, level))[branch_of(block, level)];
    return own(n, 1);
}

uint32_t *qe_tree_lanes(qe_node **root, uint32_t agent) {
    qe_node *block = own_block(root, qe_agent_block(agent));
    return lane_of(own(&child_of(block)[leaf_of(qe_agent_index(agent))], 0));
}

void qe_tree_raise(qe_node **root, uint32_t agent, uint32_t epoch) {
    if (qe_tree_at(*root, agent) >= epoch) return;
    qe_tree_lanes(root, agent)[agent % LEAF] = epoch;
}

void qe_tree_raise_alike(qe_node **root, uint32_t agent, uint32_t epoch) {
    qe_node *a = *root;
    if (qe_tree_at(a, agent) >= epoch) return;
    uint32_t slot = (uint32_t)((uintptr_t)a / 64 + agent * 5) % RAISES;
    if (!a || trees.raises[slot].a != a || trees.raises[slot].agent != agent ||
        trees.raises[slot].epoch != epoch) {
        qe_tree_unref(trees.raises[slot].a);
        qe_tree_unref(trees.raises[slot].raised);
        trees.raises[slot].a = qe_tree_ref(a);
        trees.raises[slot].raised = qe_tree_ref(a);
        trees.raises[slot].agent = agent;
        trees.raises[slot].epoch = epoch;
        qe_tree_raise(&trees.raises[slot].raised, agent, epoch);
    }
    *root = qe_tree_ref(trees.raises[slot].raised);
    qe_tree_unref(a);
}

void qe_tree_raise_block(qe_node **root, uint32_t block, uint32_t epoch) {
    qe_node *n = own_block(root, block);
    if (n->floor < epoch) n->floor = epoch;
    for (uint32_t i = 0; i < trees.warps; i++) {
        drop(child_of(n)[i], 0);
        child_of(n)[i] = NULL;
    }
}

/* ---- joins ----------------------------------------------------------------------------------- */

/* All of these return a reference, to a or b themselves where one holds the other. */
static qe_node *joined(qe_node *a, qe_node *b, uint32_t level);

static qe_node *joined_leaf(qe_node *a, qe_node *b) {
    uint32_t lane[LEAF], not_a = 0, not_b = 0;
    const uint32_t *x = lane_of(a), *y = lane_of(b);
    for (int i = 0; i < LEAF; i++) {
        lane[i] = x[i] > y[i] ? x[i] : y[i];
        not_a |= lane[i] ^ x[i];
        not_b |= lane[i] ^ y[i];
    }
    if (!not_a) return qe_tree_ref(a);
    if (!not_b) return qe_tree_ref(b);
    qe_node *n = new_node(0);
    n->floor = 0;
    memcpy(n + 1, lane, sizeof lane);
    return n;
}

static bool is_below(const qe_node *leaf, uint32_t floor) {
    uint32_t above = 0;
    for (int i = 0; i < LEAF; i++) above |= lane_of(leaf)[i] > floor;
    return !above;
}

static qe_node *joined_inner(qe_node *a, qe_node *b, uint32_t level) {
    uint32_t floor = a->floor > b->floor ? a->floor : b->floor, width = width_of(level);
    bool is_a = floor == a->floor, is_b = floor == b->floor;
    qe_node *n = new_node(level);
    n->floor = floor;
    for (uint32_t i = 0; i < width; i++) {
        qe_node *x = child_of(a)[i], *y = child_of(b)[i], *both = joined(x, y, level - 1);
        if (both && floor && i < trees.warps && is_below(both, floor)) {
            drop(both, 0);
            both = NULL;
        }
        child_of(n)[i] = both;
        is_a = is_a && both == x;
        is_b = is_b && both == y;
    }
    if (!is_a && !is_b) return n;
    drop(n, level);
    return qe_tree_ref(is_a ? a : b);
}

static qe_node *joined(qe_node *a, qe_node *b, uint32_t level) {
    if (a == b || !b) return qe_tree_ref(a);
    if (!a) return qe_tree_ref(b);
    return level ? joined_inner(a, b, level) : joined_leaf(a, b);
}

void qe_tree_join(qe_node **root, qe_node *other) {
    qe_node *a = *root;
    if (a == other || !other) return;
    if (!a) {
        *root = qe_tree_ref(other);
        return;
    }
    uint32_t slot = (uint32_t)((uintptr_t)a / 64 + (uintptr_t)other / 16) % MEMOS;
    if (trees.memo[slot].a != a || trees.memo[slot].b != other) {
        qe_node *both = joined(a, other, trees.top);
        qe_tree_unref(trees.memo[slot].a);
        qe_tree_unref(trees.memo[slot].b);
        qe_tree_unref(trees.memo[slot].joined);
        trees.memo[slot].a = qe_tree_ref(a);
        trees.memo[slot].b = qe_tree_ref(other);
        trees.memo[slot].joined = both;
    }
    *root = qe_tree_ref(trees.memo[slot].joined);
    qe_tree_unref(a);
}
