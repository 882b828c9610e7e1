"""llama.cpp itself opens the files that are written for it, cuts text as the tokenizer does, and computes what transformers computes."""

import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from tasks.io.weights import checkpoints, gguf_lora
from tasks.methods.compressors.gguf.config import GgufConfig
from tasks.methods.compressors.gguf.method import FILE, read, write
from tests.methods import contract
from tests.methods.test_gguf import CUTS, MAKERS, TEXTS, llama, tokenizer, wide
from tests.methods.test_interchange import trained

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
QUANTISED = {"q8_0": 0.02, "q5_1": 0.05, "q5_0": 0.05, "q4_1": 0.05, "q4_0": 0.05}
"""How far log-probabilities may be apart: llama.cpp rounds what a matrix reads to 8 bits too, and transformers does not."""
SERVER = """
import json, sys, urllib.request
import xllamacpp

request = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup, params.verbosity = request["model"], 64, 1, False, 0
params.hostnames = ["127.0.0.1"]
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(request["lora"], 1.0)] if "lora" in request else []
server = xllamacpp.Server(params)

def ids(text):
    body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
    asked = urllib.request.Request(server.listening_address + "/tokenize", body, {"Content-Type": "application/json"})
    return json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked))["tokens"]

# It writes a letter, since it tells no probabilities of a token that is half a character. They are those before the bias.
(letter,) = ids("a")
after = {"n_predict": 1, "logit_bias": [[letter, 1e6]], "post_sampling_probs": False, "n_probs": 1000}
answer = server.handle_completions({"prompt": request["ids"]} | after)
(token,) = answer["choices"][0]["logprobs"]["content"]
said = {"after": {one["id"]: one["logprob"] for one in token["top_logprobs"]}, "ids": [ids(text) for text in request["texts"]]}
print("\\n" + json.dumps(said))
"""


def asked(folder, *texts, **more):
    """What llama.cpp says of a file: log P of each token after IDS, and the ids of the texts."""
    request = {"model": str(folder / FILE), "ids": IDS, "texts": texts, **more}
    done = subprocess.run(
        [sys.executable, "-c", SERVER],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    return torch.tensor([said["after"][str(token)] for token in range(len(said["after"]))]), said["ids"]


@torch.no_grad()
def computed(model) -> Tensor:
    """Log P of each token after IDS, by transformers."""
    logits: Tensor = model.eval()(input_ids=torch.tensor([IDS])).logits
    return logits[0, -1].log_softmax(dim=-1)


def written(model, folder, kind="f32", cut="gpt-2"):
    """A folder with the model and a tokenizer that has merges, without which llama.cpp opens no file."""
    words = tokenizer(cut)
    folder.mkdir(exist_ok=True)
    write(wide(model, 352), words, folder, GgufConfig(type=kind))
    return words


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_it_computes_what_transformers_computes(tmp_path, make):
    model = make()
    written(model, tmp_path)
    torch.testing.assert_close(asked(tmp_path)[0], computed(model), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["f16", "bf16", *QUANTISED])
def test_it_computes_nearly_that_of_every_number_type(tmp_path, kind):
    written(llama(), tmp_path, kind)
    after, _ = asked(tmp_path)
    torch.testing.assert_close(
        after, computed(read(tmp_path, "float32", "cpu")[0]), rtol=0, atol=QUANTISED.get(kind, 0.02)
    )


@pytest.mark.parametrize("cut", CUTS)
def test_it_cuts_text_as_the_tokenizer_does(tmp_path, cut):
    words = written(llama(), tmp_path, cut=cut)
    assert asked(tmp_path, *TEXTS)[1] == [words(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("name", ["lora", "corda"])
def test_it_adds_a_lora_to_its_base(tiny, tmp_path, name):
    trained("adapters", name, tmp_path / name, tiny)
    gguf_lora.write(tmp_path / "lora.gguf", tmp_path / name, tiny)
    base, tuned = checkpoints.load(tiny)[0], checkpoints.load(tmp_path / name, tiny)[0]
    written(base, tmp_path / "base")
    after, _ = asked(tmp_path / "base", lora=str(tmp_path / "lora.gguf"))
    vocabulary = tuned.config.vocab_size
    torch.testing.assert_close(
        after[:vocabulary].log_softmax(dim=-1), computed(tuned).log_softmax(dim=-1), rtol=0, atol=1e-3
    )
    assert (computed(tuned) - computed(checkpoints.load(tiny)[0])).abs().max() > 0.01, "nothing was trained"


@pytest.mark.parametrize("kind", contract.MODELS)
def test_it_opens_a_model_whose_layers_are_narrower(tiny, tmp_path, kind):
    parts = contract.composition(adapters="pat")
    attached, optimizer = contract.composed(contract.model(kind, tiny), parts, hasty=True)
    contract.steps(attached, optimizer, parts)
    model = parts.adapter.method.merge(attached.model)
    written(model, tmp_path)
    torch.testing.assert_close(asked(tmp_path)[0], computed(model), rtol=0, atol=1e-3)
