"""The engine's model as a plain Python loop over iterations: the yardstick of its tests and of its benchmark.

It follows the text of `llmsched_gym.backends.engine` and `kv_cache` word by word, one object per request, one pass of
the loop per iteration, block counts recomputed from token counts, and shares no code with them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmsched_gym.backends.engine_state import EngineConfig


@dataclass
class Request:
    """One request: its input, its state in the engine, and its times (ns; None: not yet)."""

    arrival_ns: int
    prompt: int
    output: int
    app_prefix: int = -1
    app_prefix_tokens: int = 0
    job_prefix: int = -1
    job_prefix_tokens: int = 0
    computed: int = 0  # tokens in KV
    generated: int = 0
    target: int = 0  # tokens that its prefill computes
    decodes: bool = False  # its prefill is done: only the last token is missing in KV
    app_blocks: int = 0
    job_blocks: int | None = None
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    finish_ns: int | None = None
    restarts: int = 0
    cached: int = 0


@dataclass
class Entry:
    """Cached blocks of one prefix."""

    blocks: int = 0
    start: int = 0
    holders: int = 0


@dataclass
class PlainEngine:
    """One engine; `run` serves a list of requests.

    With `block_ahead` it preempts as Vidur's schedulers do, and not as vLLM V1: a running request is served only
    while at least one block is free, whether it starts a block or not.
    """

    config: EngineConfig
    block_ahead: bool = False
    clock_ps: int = 0
    iterations: int = 0
    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    entries: dict[int, Entry] = field(default_factory=dict)
    unheld: OrderedDict[int, None] = field(default_factory=OrderedDict)  # entries by age since their last use
    free: int = 0

    def __post_init__(self) -> None:
        """Start with an empty cache."""
        self.free = self.config.kv_blocks

    def blocks(self, tokens: int) -> int:
        """Blocks for `tokens` tokens."""
        return -(-tokens // self.config.block_size)

    @property
    def reclaimable(self) -> int:
        """Blocks of entries that nobody holds."""
        return sum(self.entries[index].blocks for index in self.unheld)

    def private(self, request: Request) -> int:
        """Blocks that only this running request uses."""
        return self.blocks(request.computed) - request.app_blocks - (request.job_blocks or 0)

    def check(self) -> None:
        """Assert that the blocks add up."""
        held = sum(entry.blocks for entry in self.entries.values() if entry.holders)
        used = held + sum(self.private(request) for request in self.running)
        assert used + self.reclaimable + self.free == self.config.kv_blocks

    # --- prefix entries ---

    def prefixes(self, request: Request) -> tuple[int, int]:
        """Ids of the entries that may serve the request; -1: none."""
        return (request.app_prefix, request.job_prefix) if self.config.prefix_caching else (-1, -1)

    def start_of_job_entry(self, request: Request) -> int:
        """Blocks that the application's prefix covers."""
        return request.app_prefix_tokens // self.config.block_size if request.app_prefix >= 0 else 0

    def take(self, blocks: int) -> None:
        """Use blocks; evict where none is free."""
        self.free -= blocks
        while self.free < 0:
            oldest = next(iter(self.unheld))
            self.trim(oldest, self.entries[oldest].blocks - 1)

    def trim(self, index: int, blocks: int) -> None:
        """Cut an entry down to `blocks` blocks."""
        entry = self.entries[index]
        self.free += max(0, entry.blocks - blocks)
        entry.blocks = min(entry.blocks, blocks)
        if entry.blocks == 0:
            self.unheld.pop(index, None)

    def attach(self, request: Request) -> bool:
        """Look up the cache and hold what it finds, if the whole prefill fits."""
        size = self.config.block_size
        limit = (request.target - 1) // size
        start = self.start_of_job_entry(request)
        app, job = self.prefixes(request)
        for index in (app, job):
            if index >= 0:
                self.entries.setdefault(index, Entry())
        app_hit = min(start, limit, self.entries[app].blocks) if app >= 0 else 0
        job_hit: int | None = None
        if job >= 0:
            entry = self.entries[job]
            reachable = entry.start == start and (app < 0 or self.entries[app].blocks >= start)
            if not reachable and entry.holders == 0:
                self.trim(job, 0)
                entry.start = start
                reachable = True
            if reachable:
                job_hit = max(0, min(request.job_prefix_tokens // size - start, limit - start, entry.blocks))
        need = self.blocks(request.target) - app_hit - (job_hit or 0)
        wanted = [(index, hit) for index, hit in ((app, app_hit), (job, job_hit)) if index >= 0 and hit is not None]
        others = sum(self.entries[index].blocks for index in self.unheld if index not in [w[0] for w in wanted])
        idle = [(index, hit) for index, hit in wanted if self.entries[index].holders == 0]
        room = self.free + others - self.config.watermark_blocks
        surplus = sum(self.entries[index].blocks - hit for index, hit in idle)
        if need > room + surplus:
            return False
        if need > room:
            for index, hit in idle:
                self.trim(index, hit)
        for index, _ in wanted:
            self.entries[index].holders += 1
            self.unheld.pop(index, None)
        request.app_blocks, request.job_blocks = app_hit, job_hit
        request.computed = (app_hit + (job_hit or 0)) * size
        return True

    def share(self, request: Request, tokens: int) -> None:
        """Let the entries that the request shares to their end take over its further full blocks."""
        app, job = self.prefixes(request)
        full, start = tokens // self.config.block_size, self.start_of_job_entry(request)
        if app >= 0 and self.entries[app].blocks == request.app_blocks:
            self.entries[app].blocks = request.app_blocks = max(request.app_blocks, min(full, start))
        if request.job_blocks is not None and self.entries[job].blocks == request.job_blocks:
            self.entries[job].blocks = request.job_blocks = max(request.job_blocks, full - start)

    def release(self, request: Request) -> None:
        """Give up all blocks; the application's entry counts as used after the job's."""
        self.free += self.private(request)
        app, job = self.prefixes(request)
        for index in (job if request.job_blocks is not None else -1, app):
            if index >= 0:
                entry = self.entries[index]
                entry.holders -= 1
                if entry.holders == 0 and entry.blocks:
                    self.unheld[index] = None

    # --- iterations ---

    def preempt_last(self) -> Request:
        """Preempt the last of RUNNING."""
        victim = self.running.pop()
        self.release(victim)
        victim.computed = 0
        victim.decodes = False
        victim.restarts += 1
        self.waiting.appendleft(victim)
        return victim

    def grow(self, request: Request, tokens: int) -> bool:
        """Get blocks for more tokens, preempting from the end of RUNNING; False: the request itself was preempted."""
        need = self.blocks(request.computed + tokens) - self.blocks(request.computed)
        least = max(need, 1) if self.block_ahead else need
        while least > self.free + self.reclaimable:
            if len(self.running) == 1:
                for index, own in zip(self.prefixes(request), (request.app_blocks, request.job_blocks), strict=True):
                    if index >= 0 and own is not None:
                        self.trim(index, own)
                if least <= self.free + self.reclaimable:
                    break
            if self.preempt_last() is request:
                return False
        self.take(need)
        return True

    def iterate(self) -> None:
        """Run one iteration."""
        config, profile = self.config, self.config.profile
        size, budget, before = config.block_size, config.max_num_batched_tokens, len(self.running)
        n_decode, context = 0, 0
        prefills: list[tuple[Request, int]] = []
        for request in self.running:  # preemption shortens the list behind the request that asks for blocks
            if request.decodes:
                if (self.block_ahead or request.computed % size == 0) and not self.grow(request, 1):
                    break
                budget -= 1
                n_decode += 1
                context += request.prompt + request.generated
            else:
                tokens = min(request.target - request.computed, budget)
                if not self.grow(request, tokens):
                    break
                budget -= tokens
                prefills.append((request, tokens))
                self.share(request, min(request.computed + tokens, request.prompt))
        preempted = len(self.running) < before
        while not preempted and budget > 0 and self.waiting and len(self.running) < config.max_num_seqs:
            request = self.waiting[0]
            request.target = request.prompt + request.generated
            if not self.attach(request):
                break
            self.running.append(self.waiting.popleft())
            if request.scheduled_ns is None:
                request.scheduled_ns = -(-self.clock_ps // 1000)
                request.cached = request.computed
            tokens = min(request.target - request.computed, budget)
            self.take(self.blocks(request.computed + tokens) - self.blocks(request.computed))
            budget -= tokens
            prefills.append((request, tokens))
            self.share(request, min(request.computed + tokens, request.prompt))
        self.clock_ps += (
            profile.iteration_ps
            + profile.decode_ps * n_decode
            + profile.prefill_ps * sum(tokens for _, tokens in prefills)
            + profile.context_ps * context
            + profile.attention_ps * sum(k * request.computed + k * (k - 1) // 2 for request, k in prefills)
        )
        self.iterations += 1
        finished = False
        for request in self.running:
            if request.decodes:
                request.computed += 1
                request.generated += 1
                finished = finished or request.generated == request.output
        for request, tokens in prefills:
            request.computed += tokens
            if request.computed == request.target:
                request.decodes = True
                request.generated += 1
                finished = finished or request.generated == request.output
                if request.first_token_ns is None:
                    request.first_token_ns = -(-self.clock_ps // 1000)
        if finished:
            self.retire()

    def retire(self) -> None:
        """Let go of the requests that are complete."""
        for request in self.running:
            if request.generated == request.output:
                request.finish_ns = -(-self.clock_ps // 1000)
                self.share(request, request.computed)
                self.release(request)
        self.running = [request for request in self.running if request.generated < request.output]

    def run(self, requests: Sequence[Request], *, check: bool = False) -> None:
        """Serve requests, sorted by arrival, to the end; `check` asserts the block count after every iteration."""
        arrivals = deque(requests)
        while arrivals or self.running or self.waiting:
            if not self.running and not self.waiting:
                self.clock_ps = max(self.clock_ps, arrivals[0].arrival_ns * 1000)
            while arrivals and arrivals[0].arrival_ns <= -(-self.clock_ps // 1000):
                self.waiting.append(arrivals.popleft())
            self.iterate()
            if check:
                self.check()
