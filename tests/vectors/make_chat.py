#!/usr/bin/env python3
"""Makes tests/vectors/chat.jsonl: prompts as transformers' apply_chat_template renders them.

    python3 make_chat.py > chat.jsonl                        (needs: pip install transformers jinja2)
    python3 make_chat.py --published TEMPLATE.jinja ... > /tmp/chat.jsonl

The templates here are the published ones without what this engine never asks of them: tools, documents, images, earlier
answers. That nothing else was lost is shown by the second form, which renders published templates as they are, whole files
that are not ours to keep here: give its output to the same test with KVT_CHAT_VECTORS=/tmp/chat.jsonl.

A line with "template" is followed by the lines of its cases. "refused" is a part of our message where an answer would differ
from what a user expects: a system text that the template drops or forbids, a default text with today's date or a long one of
the template's own, a template that is none of those we know."""
import argparse
import json
import os
import sys

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

CHATML = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
CHATML_GO = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def chatml_default(text):
    return ("{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
            "{%- else %}{{- '<|im_start|>system\\n" + text + "<|im_end|>\\n' }}{%- endif %}"
            "{%- for message in messages %}{%- if message.role == \"user\" %}"
            "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}")


def mistral(open_, close):
    """Mistral's third generation: the system text goes into the last user turn."""
    return ('{%- if messages[0]["role"] == "system" %}{%- set system_message = messages[0]["content"] %}{%- set loop_messages = messages[1:] %}'
            '{%- else %}{%- set loop_messages = messages %}{%- endif %}\n{{- bos_token }}\n{%- for message in loop_messages %}'
            '{%- if message["role"] == "user" %}{%- if loop.last and system_message is defined %}\n'
            '            {{- "' + open_ + '" + system_message + "\\n\\n" + message["content"] + "' + close + '" }}\n        {%- else %}\n'
            '            {{- "' + open_ + '" + message["content"] + "' + close + '" }}\n        {%- endif %}{%- endif %}{%- endfor %}\n')


LLAMA3_TURN = "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>'"
LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
GEMMA3_ROLE = ("{%- if (message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n"
               "        {%- set role = message['role'] -%}\n    {%- endif -%}")
GEMMA_ROLE = "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
QWEN3 = ("{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}"
         "{%- for message in messages %}{%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}"
         "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}"
         "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
         "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}")
DEEPSEEK = ("{%- set ns = namespace(system_prompt='') -%}{%- for message in messages -%}{%- if message['role'] == 'system' -%}"
            "{%- set ns.system_prompt = message['content'] -%}{%- endif -%}{%- endfor -%}{{bos_token}}{{ns.system_prompt}}"
            "{%- for message in messages -%}{%- if message['role'] == 'user' -%}{{'<\uff5cUser\uff5c>' + message['content']}}{%- endif -%}{%- endfor -%}")

# name: (template, BOS)
TEMPLATES = {
    "ChatML": (CHATML + CHATML_GO, ""),
    "SmolLM2": ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI "
                "assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}" + CHATML[len("{% for message in messages %}"):] + CHATML_GO, ""),
    "Qwen 2.5": (chatml_default("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.") + CHATML_GO, ""),
    "Qwen 3": (QWEN3, ""),
    "QwQ": (chatml_default("You are a helpful assistant.") + "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}", ""),
    "Llama 2": ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
                "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
                "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
                "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + "
                "' [/INST]' }}{% endif %}{% endfor %}", "<s>"),
    "Llama 3": ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = " + LLAMA3_TURN + " %}{% if loop.index0 == 0 %}"
                "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
                "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}", "<|begin_of_text|>"),
    "Llama 3.1": (LLAMA31, "<|begin_of_text|>"),
    "Mistral 0.1": ("{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception("
                    "'Conversation roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
                    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% endif %}{% endfor %}", "<s>"),
    "Mistral v1": (mistral(" [INST] ", " [/INST]"), "<s>"),
    "Mistral v3": (mistral("[INST] ", "[/INST]"), "<s>"),
    "Mistral v3 Tekken": (mistral("[INST]", "[/INST]"), "<s>"),
    "Mistral v7": ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + '[/INST]' }}"
                   "{% elif message['role'] == 'system' %}{{ '[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}{% endif %}{% endfor %}", "<s>"),
    "Mistral v7 Tekken": ("{%- set today = strftime_now(\"%Y-%m-%d\") %}{{- bos_token }}{%- set system_prompt = 'The current date is ' + today %}"
                          "{%- if messages[0]['role'] == 'system' %}{%- set system_prompt = messages[0]['content'] %}{%- endif %}"
                          "{{- '[SYSTEM_PROMPT]' + system_prompt + '[/SYSTEM_PROMPT]' }}{%- for message in messages %}{%- if message['role'] == 'user' %}"
                          "{{- '[INST]' + message['content'] + '[/INST]' }}{%- endif %}{%- endfor %}", "<s>"),
    "Gemma 2": ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
                "{% for message in messages %}" + GEMMA_ROLE + "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
                "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}", "<bos>"),
    "Gemma 3": ("{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n"
                "    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set first_user_prefix = \"\" -%}\n    {%- set loop_messages = messages -%}\n"
                "{%- endif -%}\n{%- for message in loop_messages -%}\n    " + GEMMA3_ROLE + "\n    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if "
                "loop.first else \"\") }}\n    {%- if message['content'] is string -%}\n        {{ message['content'] | trim }}\n    {%- endif -%}\n    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n"
                "    {{'<start_of_turn>model\n'}}\n{%- endif -%}\n", "<bos>"),
    "Phi-3 first": ("{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + message['content'] + '<|end|>' + "
                    "'\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}", "<s>"),
    "Phi-3.5": ("{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
                "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
                "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}", "<s>"),
    "Phi-4 mini": ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
                   "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}", ""),
    "Phi-4": ("{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}"
              "{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>'}}"
              "{% endif %}{% endfor %}", ""),
    "DeepSeek distilled": (DEEPSEEK + "{%- if add_generation_prompt -%}{{'<\uff5cAssistant\uff5c>'}}{%- endif -%}", "<\uff5cbegin\u2581of\u2581sentence\uff5c>"),
    "DeepSeek R1 distilled": (DEEPSEEK + "{%- if add_generation_prompt -%}{{'<\uff5cAssistant\uff5c><think>\\n'}}{%- endif -%}", "<\uff5cbegin\u2581of\u2581sentence\uff5c>"),
    "Granite 3.0": ("{%- for message in messages %}{%- if message['role'] == 'system' %}{{- '<|start_of_role|>system<|end_of_role|>' + message['content'] + "
                    "'<|end_of_text|>\n' }}{%- elif message['role'] == 'user' %}{{- '<|start_of_role|>user<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}"
                    "{%- endif %}{%- if loop.last and add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}{%- endfor %}", ""),
    "Granite 3.3": ("{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}{%- else %}"
                    "{%- set system_message = \"Today's Date: \" + strftime_now('%B %d, %Y') + \". You are Granite, developed by IBM.\" %}"
                    "{%- set loop_messages = messages %}{%- endif %}{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>\n' }}"
                    "{%- for message in loop_messages %}{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}"
                    "{%- if loop.last and add_generation_prompt %}{{- '<|start_of_role|>assistant' }}{{- '<|end_of_role|>' }}{%- endif %}{%- endfor %}", ""),
    "OLMo 2": ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}"
               "{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}{% endif %}{% if loop.last and add_generation_prompt %}"
               "{{ '<|assistant|>\n' }}{% endif %}{% endfor %}", "<|bos|>"),  # <|endoftext|> of its vocabulary; the test's has that already
    "Zephyr": ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
               "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% endif %}\n"
               "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}", "<s>"),
    # none of those we know: it has to be refused by its beginning
    "Vicuna": ("{% for message in messages %}{{ message['role'].upper() + ': ' + message['content'] + ' ' }}{% endfor %}ASSISTANT:", "<s>"),
}
UNKNOWN = {"Vicuna"}
USERS = ["Why is the sky blue?", " \n  Spaces around, \u00e9\u4e2d\U0001f600.\n\nTwo lines. \u3000\n"]
SYSTEMS = [None, "Be brief.", " Answer in one word.\n"]


def render(template, bos, system, user, **more):
    t = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos or None, eos_token="<|im_end|>")  # the test model's
    messages = ([{"role": "system", "content": system}] if system is not None else []) + [{"role": "user", "content": user}]
    return t.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True, date_string="26 Jul 2024", **more)


def cases(name, template, bos):
    print(json.dumps({"template": template, "name": name, "bos": bos}))
    for user in USERS:
        for system in SYSTEMS:
            for thinking in (None, False) if "enable_thinking" in template else (None,):
                case = {"user": user}
                if system is not None:
                    case["system"] = system
                if thinking is not None:
                    case["thinking"] = thinking
                try:
                    text = render(template, bos, system, user, **({} if thinking is None else {"enable_thinking": thinking}))
                    if name in UNKNOWN:
                        case["refused"] = "none of those that are known"
                    elif system is None and ("default_system_message" in template or "strftime_now" in template and "date_string" not in template):
                        case["refused"] = "puts in one of its own"
                    elif system is not None and system.strip() not in text:
                        case["refused"] = "no place for a system text"
                    else:
                        case["text"] = text
                except TemplateError as e:
                    case["refused"] = "no place for a system text" if system is not None else str(e)
                print(json.dumps(case))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--published", nargs="+", metavar="TEMPLATE.jinja")
args = parser.parse_args()
for path in args.published or []:
    try:
        cases(os.path.basename(path), open(path, newline="").read(), "<s>")
    except Exception as e:  # a template that wants more than messages; its cases so far are good
        print(f"{path}: {e}", file=sys.stderr)
if not args.published:
    for name, (template, bos) in TEMPLATES.items():
        cases(name, template, bos)
