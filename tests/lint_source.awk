# The rules of lint.sh for C and CUDA files, one pass over all of them.
#
# Variables: excepted (" rule:file rule:file "), max_lines, max_function_lines.

function problem(line, rule, message) {
    if (index(excepted, " " rule ":" FILENAME " ") == 0)
        printf "%s:%d: %s [%s]\n", FILENAME, line, message, rule
}

# The line without comments and without what is inside literals.
function strip(s,    out, quote, c, pair, i, n) {
    out = quote = ""
    n = length(s)
    for (i = 1; i <= n; i++) {
        c = substr(s, i, 1)
        pair = substr(s, i, 2)
        if (in_comment) {
            if (pair == "*/") { in_comment = 0; i++ }
        } else if (quote != "") {
            if (c == "\\") i++
            else if (c == quote) { quote = ""; out = out c }
        } else if (pair == "/*") {
            in_comment = 1
            i++
        } else if (pair == "//") {
            break
        } else {
            if (c == "\"" || c == "'") quote = c
            out = out c
        }
    }
    return out
}

function calls(names) { return code ~ ("(^|[^A-Za-z0-9_.>])(" names ") *\\(") }

function file_ends() {
    if (last_file != "" && lines > max_lines && index(excepted, " size:" last_file " ") == 0)
        printf "%s:%d: %d lines, at most %d: split by idea [size]\n", last_file, lines, lines,
            max_lines
}

function check_include(    path, target) {
    path = $0
    sub(/^[^"]*"/, "", path)
    sub(/".*/, "", path)
    target = path
    sub(/\/.*/, "", target)
    if (path !~ /\// || path ~ /\.\./)
        problem(FNR, "include", "include \"" path "\" by its path from the root")
    else if (library && (!(target in rank) || rank[target] > rank[room] ||
                         (rank[target] == rank[room] && target != room)))
        problem(FNR, "ladder",
            room " may not include " path ": kernels <- engine <- {layers, optim} <- io")
}

function check_library_code() {
    if (calls("malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|posix_memalign"))
        problem(FNR, "alloc", "the heap is reached through qn_alloc, qn_realloc and qn_free")
    if (calls("printf|vprintf|puts|putchar|perror") || code ~ /(printf|puts|putc)\(.*std(out|err)/)
        problem(FNR, "print", "library code never prints")
    if (calls("exit|_exit|_Exit|abort|quick_exit"))
        problem(FNR, "exit", "library code never ends the process")
    if (calls("strcpy|strcat|sprintf|vsprintf|gets|strtok|tmpnam|alloca"))
        problem(FNR, "unsafe", "a call that knows no bounds")
    if (calls("atoi|atol|atoll|atof|rand|srand|setlocale|system|popen"))
        problem(FNR, "unsafe", "a call that hides errors, state or a shell")
    if (calls("fork|vfork"))
        problem(FNR, "fork", "never fork after OpenMP, CUDA or HDF5 has started")
    if (room == "io" && calls("assert"))
        problem(FNR, "assert", "input is checked with an error, not with assert")
    if (code ~ harmless) return
    if (code ~ /^ *static [^(]*[=;[]/)
        problem(FNR, "global", "mutable global or function-static variable")
    else if (depth == 0 && code ~ /^[A-Za-z_][A-Za-z0-9_ *]*[ *][A-Za-z0-9_]+(\[[^]]*\])* *[=;]/ &&
             code !~ /^(typedef|extern|struct|union|enum|static|using) /)
        problem(FNR, "global", "mutable global variable")
}

# A fallible function says so; one that is handed a status or an error to pass on need not.
function check_prototype() {
    if (statement == "" && code ~ /^qn_status qni?_[a-z0-9_]+\(/) statement_line = FNR
    else if (statement == "") return
    statement = statement code
    if (code !~ /;/) return
    if (statement !~ /QN_CHECKED/ && statement !~ /[(,] *qn_status |\(const qn_error \*/)
        problem(statement_line, "checked", "a function that returns qn_status is QN_CHECKED")
    statement = ""
}

function check_function_length(    size) {
    if (depth == 0 && code ~ /\) *\{ *$/) function_line = FNR
    if (depth == 0 && code ~ /^extern .*\{ *$/) return
    depth += gsub(/\{/, "{", code) - gsub(/\}/, "}", code)
    if (depth > 0) return
    depth = 0
    size = FNR - function_line + 1
    if (function_line && size > max_function_lines)
        problem(function_line, "function",
            "a function of " size " lines, at most " max_function_lines)
    function_line = 0
}

BEGIN {
    rank["kernels"] = 1
    rank["engine"] = 2
    rank["layers"] = rank["optim"] = 3
    rank["io"] = 4
    # Constants, one value per thread, and what exists to be shared between threads and signals.
    harmless = "const|_Thread_local|_Atomic|atomic_|pthread_|once_flag|sig_atomic_t|inline|_assert"
}

FNR == 1 {
    file_ends()
    last_file = FILENAME
    room = base = FILENAME
    sub(/\/.*/, "", room)
    sub(/.*\//, "", base)
    library = room in rank
    header = base ~ /\.(h|cuh)$/
    in_comment = depth = function_line = continued = 0
    statement = ""
    if ($0 !~ /^\/\* [^ ]+ .*[a-z][a-z]/)
        problem(1, "purpose", "a source file begins with a comment that says what it is for")
    else if ($2 ~ /^[a-z_0-9]+\.(c|h|cu|cuh)$/ && $2 != base)
        problem(1, "purpose", "the first comment speaks of " $2)
}

{
    lines = FNR
    code = strip($0)
    macro = continued || code ~ /^ *#/
    continued = macro && /\\$/
}

/^ *# *include *"/ { check_include() }
library && room != "io" && /^ *# *include *<(hdf5|H5|cjson|zlib)/ {
    problem(FNR, "ladder", "only io knows the outside world")
}
/^ *\/\* ---- / && !/\*\/$/ { problem(FNR, "ruler", "a ruler ends on its line: shorten it") }
code ~ /^ *# *if +0/ { problem(FNR, "dead", "#if 0") }
calls("cJSON_Parse[A-Za-z]*") {
    problem(FNR, "json", "cJSON_Parse is not strict enough for hostile text")
}
library && !macro { check_library_code() }
library && header && !macro && depth == 0 { check_prototype() }
!macro { check_function_length() }
END { file_ends() }
