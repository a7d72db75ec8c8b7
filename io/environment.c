/* environment.c — the machine and the libraries, for env.json and `quern doctor`. */
#include "io/environment.h"

#include "io/file.h"
#include "io/text_buffer.h"
#include "kernels/cuda.h"

#include <cblas.h>
#include <cjson/cJSON.h>
#include <hdf5.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>
#if QUERN_DNNL
#include <oneapi/dnnl/dnnl.h>
#endif

typedef struct fact {
    const char *key;
    char value[256];
} fact;

enum { MAX_FACTS = 24 };

static void add(fact *facts, int *n, const char *key, const char *value) {
    if (*n == MAX_FACTS) return;
    facts[*n].key = key;
    snprintf(facts[(*n)++].value, sizeof facts->value, "%s", value);
}

static void library_facts(fact *facts, int *n) {
    char text[128];
    unsigned major, minor, patch;
    add(facts, n, "openblas", openblas_get_config());
#if QUERN_DNNL
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
#else
    snprintf(text, sizeof text, "not in this build");
#endif
    add(facts, n, "onednn", text);
    add(facts, n, "bf16 matmul",
        qn_cpu_multiplies_bf16() ? "oneDNN, native bf16" : "converted to f32");
    if (H5get_libversion(&major, &minor, &patch) < 0) major = minor = patch = 0;
    snprintf(text, sizeof text, "%u.%u.%u", major, minor, patch);
    add(facts, n, "hdf5", text);
    add(facts, n, "cjson", cJSON_Version());
    snprintf(text, sizeof text, "%u", XXH_versionNumber());
    add(facts, n, "xxhash", text);
    add(facts, n, "zlib", zlibVersion());
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) > (int)sizeof text ||
        pcre2_config(PCRE2_CONFIG_VERSION, text) < 0)
        snprintf(text, sizeof text, "unknown");
    add(facts, n, "pcre2", text);
    snprintf(text, sizeof text, "%s, Unicode %s", utf8proc_version(), utf8proc_unicode_version());
    add(facts, n, "utf8proc", text);
}

#ifdef QUERN_CUDA
static void version_text(int v, char *text, size_t size) {
    snprintf(text, size, v ? "%d.%d" : "none", v / 1000, v % 1000 / 10);
}

static void cuda_facts(fact *facts, int *n) {
    int runtime, driver;
    char text[256];
    qn_cuda_versions(&runtime, &driver);
    version_text(runtime, text, sizeof text);
    add(facts, n, "cuda", text);
    version_text(driver, text, sizeof text);
    add(facts, n, "cuda driver", text);
    if (qn_device_open(QN_CUDA) == QN_OK) {
        qn_device_get(QN_CUDA)->describe(text, sizeof text);
        add(facts, n, "gpu", text);
        snprintf(text, sizeof text, "%d", qn_cuda_device_count());
        add(facts, n, "gpus", text);
    } else {
        add(facts, n, "gpu", qn_error_message());
    }
}
#else
static void cuda_facts(fact *facts, int *n) { add(facts, n, "cuda", "not in this build"); }
#endif

static int collect(fact *facts) {
    int n = 0;
    char text[256] = "";
    struct sysinfo memory;
    add(facts, &n, "quern", QUERN_VERSION);
    add(facts, &n, "compiler", __VERSION__);
    add(facts, &n, "cpu", qn_cpu_description());
    snprintf(text, sizeof text, "%d", qn_parallel_max_threads());
    add(facts, &n, "cores", text);
    if (sysinfo(&memory) == 0) {
        snprintf(text, sizeof text, "%.1f GiB",
                 (double)memory.totalram * memory.mem_unit / 1073741824.0);
        add(facts, &n, "memory", text);
    }
    library_facts(facts, &n);
    cuda_facts(facts, &n);
    return n;
}

static void json_facts(qn_text *t, const fact *facts, int n) {
    for (int i = 0; i < n; i++) {
        qn_text_add(t, i ? ",\n  " : "  ");
        qn_text_json_string(t, facts[i].key);
        qn_text_add(t, ": ");
        qn_text_json_string(t, facts[i].value);
    }
}

qn_status qn_environment_write(const char *run_dir, const qn_build *b) {
    fact facts[MAX_FACTS];
    int n = collect(facts);
    char text[256], path[QN_PATH_MAX], *json;
    time_t now = time(NULL);
    struct tm utc;
    snprintf(text, sizeof text, "%d", b->threads);
    add(facts, &n, "threads", text);
    if (gethostname(text, sizeof text) == 0) add(facts, &n, "host", text);
    if (gmtime_r(&now, &utc) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc))
        add(facts, &n, "started", text);
    if (getcwd(text, sizeof text)) add(facts, &n, "directory", text);
    qn_text t = {0};
    qn_text_add(&t, "{\n");
    json_facts(&t, facts, n);
    qn_text_add(&t, "\n}\n");
    QN_TRY(qn_text_take(&t, &json));
    qn_status s = qn_path_format(path, sizeof path, "%s/env.json", run_dir);
    if (s == QN_OK) s = qn_file_replace(path, json, strlen(json));
    qn_free(json);
    return s;
}

char *qn_environment_notes(qn_precision p, qn_device d) {
    if (d == QN_CPU && p == QN_PRECISION_F64) {
        return qn_strdup(
            "precision f64: matrix products are BLAS, everything else runs plain reference bodies",
            "a note");
    }
    bool bf16 = p == QN_PRECISION_BF16 || p == QN_PRECISION_BF16_SR;
    if (d == QN_CPU && bf16 && !qn_cpu_multiplies_bf16()) {
        return qn_strdup(
            "precision bf16: this CPU has no bf16 matrix instructions, products convert to f32",
            "a note");
    }
    return NULL;
}

qn_status qn_environment_doctor(bool json, char **out) {
    fact facts[MAX_FACTS];
    int n = collect(facts);
    qn_text t = {0};
    if (json) {
        qn_text_add(&t, "{\n");
        json_facts(&t, facts, n);
        qn_text_add(&t, "\n}\n");
    } else {
        for (int i = 0; i < n; i++) qn_text_printf(&t, "%-12s %s\n", facts[i].key, facts[i].value);
    }
    return qn_text_take(&t, out);
}
