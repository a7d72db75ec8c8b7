/* main.c — the program: the table of verbs, and the one place that turns a status into an exit code. */
#include "io/cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SET_OPTION {"--set", QN_CLI_SETS, "key=value", "change a value of the configuration; repeatable"}
#define JSON_OPTION {"--json", QN_CLI_FLAG, NULL, "one JSON object for programs"}

const qn_verb qn_verbs[] = {
    {"train", "CONFIG [key=value ...]", "Train a model; stop early, keep the best weights, write a report.", 1, 1,
     qn_verb_train,
     {{"--out", QN_CLI_VALUE, "DIR", "run directory (default: runs/NAME-date-time)"},
      {"--resume", QN_CLI_OPTIONAL, "auto|DIR", "go on from the newest good checkpoint; start if there is none"},
      {"--overwrite", QN_CLI_FLAG, NULL, "remove the run that is in the run directory"},
      {"--profile", QN_CLI_FLAG, NULL, "per-op time, bytes and a Chrome trace of the last step"},
      {"--no-color", QN_CLI_FLAG, NULL, "no colour on the terminal"},
      SET_OPTION},
     "quern train configs/quickstart.json --out runs/first --set train.max_steps=200"},
    {"eval", "RUN|CONFIG", "Loss and metrics of a trained run on a split of its data.", 1, 1, qn_verb_eval,
     {{"--split", QN_CLI_VALUE, "val|test", "which part of the data (default: val)"},
      {"--ckpt", QN_CLI_VALUE, "N|final", "checkpoint of step N, or the final model (default)"},
      JSON_OPTION,
      SET_OPTION},
     "quern eval runs/first --split val --json"},
    {"predict", "RUN", "The model's output for each input of a file.", 1, 1, qn_verb_predict,
     {{"--input", QN_CLI_VALUE, "FILE", "IDX features, or a text file with one prompt a line"},
      {"--out", QN_CLI_VALUE, "FILE", "where to write: .jsonl or .csv"},
      {"--ckpt", QN_CLI_VALUE, "N|final", "checkpoint of step N, or the final model (default)"}},
     "quern predict runs/mnist --input t10k-images-idx3-ubyte --out predictions.csv"},
    {"generate", "RUN", "Continue a text.", 1, 1, qn_verb_generate,
     {{"--prompt", QN_CLI_VALUE, "TEXT", "what to continue"},
      {"--max-new-tokens", QN_CLI_VALUE, "N", "tokens to add"},
      {"--temperature", QN_CLI_VALUE, "T", "0 = always the likeliest token"},
      {"--top-k", QN_CLI_VALUE, "K", "draw from the K likeliest only; 0 = all"},
      {"--top-p", QN_CLI_VALUE, "P", "draw from the likeliest that together have probability P"},
      {"--seed", QN_CLI_VALUE, "S", "seed of the draws"},
      {"--ckpt", QN_CLI_VALUE, "N|final", "checkpoint of step N, or the final model (default)"}},
     "quern generate runs/first --prompt \"static int\" --max-new-tokens 100"},
    {"plan", "CONFIG [key=value ...]", "Exact memory by class and program, and FLOPs per step, from shapes alone.", 1, 1,
     qn_verb_plan, {{"--threads", QN_CLI_VALUE, "N", "threads to plan workspace for"}, JSON_OPTION, SET_OPTION},
     "quern plan configs/gpt2_124m.json --set precision=bf16"},
    {"validate", "CONFIG [key=value ...]", "Check a configuration and its data without training.", 1, 1, qn_verb_validate,
     {SET_OPTION}, "quern validate configs/quickstart.json"},
    {"schema", "", "JSON Schema of the configuration.", 0, 0, qn_verb_schema,
     {{"--field", QN_CLI_VALUE, "KEY", "only this key or section"}}, "quern schema --field optimizer.lr"},
    {"config", "show|reference [CONFIG]", "Show every value with its origin; or the reference page of all keys.", 1, 2,
     qn_verb_config, {SET_OPTION}, "quern config show configs/quickstart.json"},
    {"init", "[TEMPLATE]", "Write a commented starter configuration.", 0, 1, qn_verb_init,
     {{"--list", QN_CLI_FLAG, NULL, "what templates there are"},
      {"--out", QN_CLI_VALUE, "FILE", "where to (default: standard output); never replaces a file"}},
     "quern init gpt2_text --out my.json"},
    {"inspect", "RUN|CHECKPOINT", "Tensors and statistics of a checkpoint, or the digest of a run's state.", 1, 1,
     qn_verb_inspect,
     {{"--digest", QN_CLI_FLAG, NULL, "one line: SHA-256 of everything that determines the next step"}, JSON_OPTION},
     "quern inspect runs/first --digest"},
    {"report", "RUN", "Write RUN/report.html again from its metrics.", 1, 1, qn_verb_report, {{0}},
     "quern report runs/first"},
    {"doctor", "", "What this machine and this build can do.", 0, 0, qn_verb_doctor, {JSON_OPTION}, "quern doctor"},
    {"completion", "bash", "A shell completion script.", 1, 1, qn_verb_completion, {{0}},
     "source <(quern completion bash)"},
    {"help", "[COMMAND]", "This overview, or one command's options.", 0, 1, qn_verb_help, {{0}}, "quern help train"},
    {0}};

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a reader that went away must not end a run */
    if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
        printf("quern %s\n", QUERN_VERSION);
        return 0;
    }
    qn_cli cli;
    qn_status s = qn_cli_parse(argc, argv, &cli);
    if (s == QN_OK) s = cli.verb->run(&cli);
    if (fflush(stdout) != 0 && s == QN_OK) s = qn_fail(QN_ERR_IO, "standard output could not be written");
    if (s != QN_OK) fprintf(stderr, "quern: %s\n", qn_error_message());
    return qn_status_exit_code(s);
}
