"""The engine's model as a plain Python loop over iterations and KV blocks: the yardstick of tests and benchmarks.

It follows vLLM V1's scheduler and block pool step by step (a queue of free blocks, a hash table of full ones, a block
table per request) and shares no code with `llmsched_gym.backends`, whose engine does the same by the run of blocks and
the stretch of iterations. `benchmarks/vllm_scheduler.py` holds both against vLLM itself.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmsched_gym.backends.simulator.state import EngineConfig


@dataclass(eq=False)
class Block:
    """One KV block: who holds it, and the content that a prompt finds it by (None: none)."""

    holders: int = 0
    content: int | None = None


@dataclass(eq=False)
class Request:
    """One request: its input, its state in the engine, and its times (ns; None: not yet).

    Its tokens are those of its application's prefix up to `app_prefix_tokens`, those of its job's chain up to
    `own_from` (without a chain: none), and then tokens that no other request has.
    """

    arrival_ns: int
    prompt: int
    output: int
    app_prefix: int = -1
    app_prefix_tokens: int = 0
    job_prefix: int = -1
    own_from: int = 0
    fetched: int = 0  # leading tokens that come from elsewhere, in whole blocks, until it is first admitted
    computed: int = 0  # tokens that have a place in the KV cache, those of iterations in flight included
    generated: int = 0  # tokens that have come out
    promised: int = 0  # tokens that iterations in flight will bring
    prefilling: bool = False  # its last chunk did not end its prefill
    blocks: list[Block] = field(default_factory=list)
    hashed: int = 0  # leading blocks that are in the hash table
    contents: list[int] = field(default_factory=list)  # of its leading full blocks, as far as they were asked for
    scheduled_ns: int | None = None
    first_token_ns: int | None = None
    finish_ns: int | None = None
    restarts: int = 0
    cached: int = 0  # tokens that it found in the cache when it was first admitted

    @property
    def known(self) -> int:
        """Prompt and generated tokens."""
        return self.prompt + self.generated


@dataclass
class Batch:
    """One iteration in flight."""

    end_ps: int
    outputs: list[Request]  # who gets a token when it ends


class BlockPool:
    """All KV blocks of an engine."""

    def __init__(self, config: EngineConfig) -> None:
        """Start with free blocks only."""
        self.size = config.block_size
        self.caching = config.prefix_caching
        self.total = config.kv_blocks
        self.free: OrderedDict[Block, None] = OrderedDict.fromkeys(Block() for _ in range(self.total))
        self.table: dict[int, OrderedDict[Block, None]] = {}  # content to the blocks that have it, oldest first
        self.numbers: dict[tuple[object, ...], int] = {}

    @property
    def used(self) -> int:
        """Blocks that requests hold."""
        return self.total - len(self.free)

    def content(self, request: Request, index: int) -> int:
        """Return the number of what a full block holds, equal for equal tokens in it and before it."""
        app, chain = request.app_prefix_tokens if request.app_prefix >= 0 else 0, request.own_from
        while len(request.contents) <= index:
            start = len(request.contents) * self.size
            stop = start + self.size
            cut = max(chain, app) if request.job_prefix >= 0 else app
            whose = (
                ("app", request.app_prefix, range(start, min(stop, app))),
                ("job", request.job_prefix, range(max(start, app), min(stop, cut))),
                ("own", request, range(max(start, cut), stop)),
            )
            before = request.contents[-1] if request.contents else None
            key = (before, *(part for part in whose if len(part[2])))
            request.contents.append(self.numbers.setdefault(key, len(self.numbers)))
        return request.contents[index]

    def hits(self, request: Request) -> list[Block]:
        """Return the leading blocks of a request that are in the table; at least one token is left to compute."""
        found: list[Block] = []
        for index in range((request.known - 1) // self.size if self.caching else 0):
            blocks = self.table.get(self.content(request, index))
            if blocks is None:
                break
            found.append(next(iter(blocks)))
        return found

    def hold(self, block: Block) -> None:
        """Count one more holder."""
        self.free.pop(block, None)
        block.holders += 1

    def take(self) -> Block:
        """Return the free block that was of use longest ago; what it held is forgotten."""
        block = next(iter(self.free))
        if block.content is not None:
            blocks = self.table[block.content]
            del blocks[block]
            if not blocks:
                del self.table[block.content]
            block.content = None
        self.hold(block)
        return block

    def register(self, request: Request, tokens: int) -> None:
        """Enter the full blocks of a request's first `tokens` tokens into the table."""
        while self.caching and request.hashed < tokens // self.size:
            block, content = request.blocks[request.hashed], self.content(request, request.hashed)
            block.content = content
            self.table.setdefault(content, OrderedDict())[block] = None
            request.hashed += 1

    def release(self, request: Request) -> None:
        """Let go of all blocks of a request, the last one first: blocks that are in the table are reused last."""
        cached: list[Block] = []
        others: list[Block] = []
        for block in reversed(request.blocks):
            block.holders -= 1
            if block.holders == 0:
                (others if block.content is None else cached).append(block)
        self.free.update(OrderedDict.fromkeys(cached))
        for block in reversed(others):
            self.free[block] = None
            self.free.move_to_end(block, last=False)
        request.blocks.clear()
        request.hashed = 0


class PlainEngine:
    """One engine; `run` serves a list of requests.

    With `block_ahead` it preempts as Vidur's schedulers do, and not as vLLM V1: a running request is served only
    while at least one block is free, whether it starts a block or not.
    """

    def __init__(self, config: EngineConfig, *, block_ahead: bool = False) -> None:
        """Start idle at time 0."""
        self.config = config
        self.block_ahead = block_ahead
        self.pool = BlockPool(config)
        self.clock_ps = 0  # the last boundary
        self.iterations = 0  # started
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()
        self.used_before_ahead: int | None = None  # KV blocks that requests held before one was scheduled ahead
        self.used: list[int] = []  # KV blocks that requests held in each iteration
        self.flights: deque[Batch] = deque()  # asynchronous scheduling keeps one more ready than the one that runs

    # --- from outside ---

    def submit(self, request: Request, now_ns: int) -> None:
        """Put a request at the end of WAITING."""
        if not self.running and not self.waiting:
            self.clock_ps = max(self.clock_ps, now_ns * 1000)
        self.waiting.append(request)

    def launch(self) -> None:
        """Schedule as many iterations as may be in flight, after all submissions of the present boundary."""
        depth = 2 if self.config.async_scheduling else 1
        while len(self.flights) < depth and self.schedule():
            pass

    @property
    def shown_used(self) -> int:
        """KV blocks that requests hold, without what an iteration that is scheduled ahead changes."""
        return self.pool.used if self.used_before_ahead is None else self.used_before_ahead

    @property
    def next_ns(self) -> int | None:
        """When the next boundary is seen."""
        return -(-self.flights[0].end_ps // 1000) if self.flights else None

    def land(self) -> list[Request]:
        """End the iteration that runs; returns the requests that are complete, in scheduling order."""
        batch = self.flights.popleft()
        self.used_before_ahead = None
        self.clock_ps = batch.end_ps
        now_ns = -(-batch.end_ps // 1000)
        finished: list[Request] = []
        for request in batch.outputs:
            running = request in self.running  # else it was preempted meanwhile: its token comes all the same
            request.generated += 1
            if request.first_token_ns is None:
                request.first_token_ns = now_ns
            if running:
                request.promised -= 1
                self.pool.register(request, request.computed - request.promised)
            if request.generated == request.output:
                request.finish_ns = now_ns
                finished.append(request)
                self.pool.release(request)
                if not running:
                    self.waiting.remove(request)
        self.running = [request for request in self.running if request.finish_ns is None]
        return finished

    def run(self, requests: Sequence[Request]) -> None:
        """Serve requests, sorted by arrival, to the end."""
        arrivals = deque(requests)
        while arrivals or self.running or self.waiting:
            if not self.running and not self.waiting:
                self.submit(arrivals[0], arrivals.popleft().arrival_ns)
            while arrivals and arrivals[0].arrival_ns <= -(-self.clock_ps // 1000):
                self.submit(arrivals[0], arrivals.popleft().arrival_ns)
            self.launch()
            self.land()

    def cached_tokens(self, request: Request) -> int:
        """Return how many leading tokens of a request that this engine does not hold are in its cache."""
        return len(self.pool.hits(request)) * self.config.block_size

    # --- one iteration ---

    def schedule(self) -> bool:
        """Schedule one iteration; False: there is nothing to do."""
        profile = self.config.profile
        budget = self.config.max_num_batched_tokens
        self.used_before_ahead = self.pool.used if self.flights else None
        served, n_decode, context, attended = [], 0, 0, 0
        preempted = False
        index = 0
        while index < len(self.running) and budget > 0:  # preemption shortens the list behind the request
            request = self.running[index]
            tokens = min(request.known + request.promised - request.computed, budget)
            last_is_coming = request.promised > 0 and request.generated + request.promised == request.output
            if not last_is_coming:
                while not (fits := self.fits(request, tokens)):
                    preempted = True
                    if self.preempt_last() is request:
                        break
                if not fits:
                    break
                if request.prefilling:
                    attended += tokens * request.computed + tokens * (tokens - 1) // 2
                else:
                    n_decode += 1
                    context += request.computed + 1
                self.extend(request, tokens)
                served.append(request)
                budget -= tokens
            index += 1
        while not preempted and budget > 0 and self.waiting and len(self.running) < self.config.max_num_seqs:
            request = self.waiting[0]
            if not self.admit(request):
                break
            self.running.append(self.waiting.popleft())
            tokens = min(request.known - request.computed, budget)
            attended += tokens * request.computed + tokens * (tokens - 1) // 2
            self.extend(request, tokens)
            served.append(request)
            budget -= tokens
        if not served:
            return False
        prefill_tokens = self.config.max_num_batched_tokens - budget - n_decode
        start_ps = self.flights[-1].end_ps if self.flights else self.clock_ps
        length_ps = (
            profile.iteration_ps
            + profile.decode_ps * n_decode
            + profile.prefill_ps * prefill_tokens
            + profile.context_ps * context
            + profile.attention_ps * attended
        )
        for request in served:
            if request.scheduled_ns is None:
                request.scheduled_ns = -(-start_ps // 1000)
            request.prefilling = request.computed < request.known + request.promised
            request.promised += not request.prefilling
        outputs = [request for request in served if not request.prefilling]
        self.flights.append(Batch(start_ps + length_ps, outputs))
        self.iterations += 1
        self.used.append(self.pool.used)
        return True

    def blocks_for(self, tokens: int) -> int:
        """Blocks for `tokens` tokens."""
        return -(-tokens // self.config.block_size)

    def fits(self, request: Request, tokens: int) -> bool:
        """Tell whether a running request finds blocks for more tokens."""
        need = self.blocks_for(request.computed + tokens) - len(request.blocks)
        return (max(need, 1) if self.block_ahead else need) <= len(self.pool.free)

    def extend(self, request: Request, tokens: int) -> None:
        """Give a request the blocks for more tokens, which are known to be free."""
        request.computed += tokens
        while len(request.blocks) < self.blocks_for(request.computed):
            request.blocks.append(self.pool.take())
        self.pool.register(request, min(request.computed, request.known))

    def admit(self, request: Request) -> bool:
        """Look up the cache and hold what it finds, if all known tokens fit beside the watermark.

        Blocks that are found, but that nobody holds, count as free until then.
        """
        found = self.pool.hits(request)
        need = self.blocks_for(request.known) - len(found) + sum(block.holders == 0 for block in found)
        watermark = self.config.watermark_blocks if self.running else 0
        if need + watermark > len(self.pool.free):
            return False
        for block in found:
            self.pool.hold(block)
        request.blocks = found
        request.hashed = len(found)
        request.computed = len(found) * self.config.block_size
        if request.fetched > request.computed:
            self.extend(request, request.fetched - request.computed)
        if request.scheduled_ns is None:
            request.cached = request.computed
        return True

    def preempt_last(self) -> Request:
        """Preempt the last of RUNNING: it restarts in front of WAITING."""
        victim = self.running.pop()
        self.pool.release(victim)
        victim.computed = victim.promised = victim.fetched = 0
        victim.restarts += 1
        self.waiting.appendleft(victim)
        return victim
