"""Makes tokenizer.json: byte-level BPE with digits apart (the pre-tokenizer that GGUF files call "smollm"), every word of words.py one token.

    python models/tokenizer.py models/embedded"""
import json
import os
import random
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import prompts as P
import words as W

BOS = "<|endoftext|>"
SIZE = 1024


def make(folder):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    rng = random.Random(5)
    text = [" " + w for w in W.ALL for _ in range(50)] + [P.text_of(P.prompt(rng, t, 8, fill=2)) for t in P.TASKS for _ in range(400)]
    tok.train_from_iterator(text, trainers.BpeTrainer(vocab_size=SIZE, special_tokens=[BOS], show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, tok.token_to_id(BOS))])
    for w in W.ALL:
        assert len(tok.encode(" " + w, add_special_tokens=False).ids) == 1, w
    os.makedirs(folder, exist_ok=True)
    tok.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": BOS, "unk_token": BOS, "add_bos_token": True,
                   "model_max_length": 2048, "clean_up_tokenization_spaces": False}, f, indent=1)
        f.write("\n")
    print(f"{folder}: {tok.get_vocab_size()} tokens, {len(W.ALL)} words of one token")


if __name__ == "__main__":
    make(sys.argv[1])
