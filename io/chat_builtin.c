/* chat_builtin.c — the chat templates that come with Quern.
 *
 * Each marks what an assistant writes, with the mark that ends its turn, as a generation block.
 * Line ends stand inside expressions, because one behind a block tag is taken away.
 */
#include "io/chat_parts.h"

#include <string.h>

#define CHATML_TURN                                                                                \
    "<|im_start|>{{ message.role ~ '\\n' }}"                                                       \
    "{% if message.role == 'assistant' %}"                                                         \
    "{% generation %}{{ message.content ~ '<|im_end|>' }}{% endgeneration %}"                      \
    "{% else %}{{ message.content ~ '<|im_end|>' }}{% endif %}{{ '\\n' }}"
#define CHATML_PROMPT "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

/* Takes the system message from the front of `messages`: the rest is `turns`. */
#define SPLIT_SYSTEM                                                                               \
    "{% set system = '' %}{% set turns = messages %}"                                              \
    "{% if messages and messages[0].role == 'system' %}"                                           \
    "{% set system = messages[0].content %}{% set turns = messages[1:] %}{% endif %}"

#define ALTERNATE                                                                                  \
    "{% if message.role != ('user' if loop.index0 % 2 == 0 else 'assistant') %}"                   \
    "{{ raise_exception('roles must alternate user, assistant, user, assistant, ..., with at '"    \
    "'most one system message before them; found ' ~ message.role) }}{% endif %}"

/* A turn whose text follows a header, ends with a mark and then a line end. */
#define HEADED(role, content, mark)                                                                \
    "{% for message in messages %}" role "{% if message.role == 'assistant' %}"                    \
    "{% generation %}{{ " content " ~ " mark " }}{% endgeneration %}"                              \
    "{% else %}{{ " content " ~ " mark " }}{% endif %}"

static const qni_chat_builtin builtins[] = {
    {"chatml", "{% for message in messages %}" CHATML_TURN "{% endfor %}" CHATML_PROMPT,
     "{\"eos_token\": \"<|im_end|>\"}"},
    {"qwen2.5",
     "{% if not messages or messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are Qwen, "
     "created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
     "{% for message in messages %}" CHATML_TURN "{% endfor %}" CHATML_PROMPT,
     "{\"eos_token\": \"<|im_end|>\"}"},
    {"llama2",
     SPLIT_SYSTEM
     "{% for message in turns %}" ALTERNATE "{% if message.role == 'user' %}{% set text = "
     "message.content %}{% if loop.first and system %}{% set text = '<<SYS>>\\n' ~ system ~ "
     "'\\n<</SYS>>\\n\\n' ~ text %}{% endif %}"
     "{{ bos_token ~ '[INST] ' ~ text.strip() ~ ' [/INST]' }}"
     "{% else %}{% generation %}{{ ' ' ~ message.content.strip() ~ ' ' ~ eos_token }}"
     "{% endgeneration %}{% endif %}{% endfor %}",
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}"},
    {"llama3",
     "{{ bos_token }}" HEADED(
         "{{ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' }}",
         "message.content | trim",
         "'<|eot_id|>'") "{% endfor %}"
                         "{% if add_generation_prompt %}{{ "
                         "'<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
                         "{% endif %}",
     "{\"bos_token\": \"<|begin_of_text|>\", \"eos_token\": \"<|eot_id|>\"}"},
    {"mistral",
     "{{ bos_token }}" SPLIT_SYSTEM "{% for message in turns %}" ALTERNATE
     "{% if message.role == 'user' %}"
     "{{ ' [INST] ' ~ (system ~ '\\n\\n' if loop.first and system else '') ~ message.content ~ "
     "' [/INST]' }}{% else %}{% generation %}{{ ' ' ~ message.content ~ eos_token }}"
     "{% endgeneration %}{% endif %}{% endfor %}",
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}"},
    {"gemma",
     "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}"
     "{{ raise_exception('Gemma has no system role') }}{% endif %}" ALTERNATE
     "{{ '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' }}"
     "{% if message.role == 'assistant' %}{% generation %}"
     "{{ message.content | trim ~ '<end_of_turn>' }}{% endgeneration %}"
     "{% else %}{{ message.content | trim ~ '<end_of_turn>' }}{% endif %}{{ '\\n' }}{% endfor %}"
     "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
     "{\"bos_token\": \"<bos>\", \"eos_token\": \"<eos>\"}"},
    {"phi3",
     HEADED("{{ '<|' ~ message.role ~ '|>\\n' }}", "message.content",
            "'<|end|>'") "{{ '\\n' }}{% endfor %}"
                         "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
     "{\"eos_token\": \"<|endoftext|>\"}"},
    {"zephyr",
     HEADED("{{ '<|' ~ message.role ~ '|>\\n' }}", "message.content",
            "eos_token") "{{ '\\n' }}{% endfor %}"
                         "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
     "{\"eos_token\": \"</s>\"}"},
    {"vicuna",
     "{{ bos_token }}" SPLIT_SYSTEM
     "{{ system if system else 'A chat between a curious user and an artificial intelligence "
     "assistant. The assistant gives helpful, detailed, and polite answers to the user\\'s "
     "questions.' }}{{ ' ' }}{% for message in turns %}" ALTERNATE
     "{% if message.role == 'user' %}{{ 'USER: ' ~ message.content ~ ' ASSISTANT:' }}"
     "{% else %}{% generation %}{{ ' ' ~ message.content ~ eos_token }}{% endgeneration %}"
     "{% endif %}{% endfor %}",
     "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}"},
    {"alpaca",
     SPLIT_SYSTEM
     "{% for message in turns %}" ALTERNATE "{% if message.role == 'user' %}"
     "{% if not loop.first %}{{ '\\n\\n' }}{% elif system %}{{ system ~ '\\n\\n' }}"
     "{% elif message.input %}{{ 'Below is an instruction that describes a task, paired with an "
     "input that provides further context. Write a response that appropriately completes the "
     "request.\\n\\n' }}{% else %}{{ 'Below is an instruction that describes a task. Write a "
     "response that appropriately completes the request.\\n\\n' }}{% endif %}"
     "{{ '### Instruction:\\n' ~ message.content ~ '\\n\\n' }}"
     "{% if message.input %}{{ '### Input:\\n' ~ message.input ~ '\\n\\n' }}{% endif %}"
     "{{ '### Response:' }}"
     "{% else %}{% generation %}{{ message.content ~ eos_token }}{% endgeneration %}{% endif %}"
     "{% endfor %}",
     "{\"eos_token\": \"</s>\"}"},
    {"deepseek",
     "{{ bos_token }}" SPLIT_SYSTEM "{{ system }}{% for message in turns %}" ALTERNATE
     "{% if message.role == 'user' %}"
     "{{ '<｜User｜>' ~ message.content }}{% else %}{{ '<｜Assistant｜>' }}"
     "{% generation %}{{ message.content ~ eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
     "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}",
     "{\"bos_token\": \"<｜begin▁of▁sentence｜>\", "
     "\"eos_token\": \"<｜end▁of▁sentence｜>\"}"},
};

enum { BUILTINS = sizeof builtins / sizeof *builtins };

const char *qn_chat_builtin_name(int i) { return i >= 0 && i < BUILTINS ? builtins[i].name : NULL; }

const char *qn_chat_builtin_text(int i) { return i >= 0 && i < BUILTINS ? builtins[i].text : NULL; }

bool qn_chat_is_builtin(const char *name) { return qni_chat_find_builtin(name) != NULL; }

const qni_chat_builtin *qni_chat_find_builtin(const char *name) {
    for (int i = 0; i < BUILTINS; i++) {
        if (strcmp(builtins[i].name, name) == 0) return &builtins[i];
    }
    return NULL;
}
