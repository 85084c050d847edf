"""Reading Prometheus' text format."""

from __future__ import annotations

from llmsched_gym.backends.vllm.health import parse_metrics, total_by_name

PAGE = """\
# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a \\"b\\", {c}"} 3.0
vllm:num_requests_running{engine="1",model_name="a"} 2.0 1795191036000
vllm:iteration_tokens_total_bucket{engine="0",le="+Inf"} 12.0
vllm:iteration_tokens_total_sum{engine="0"} 2.84e2
process_open_fds 55
http_broken{a="b" 1.0

python_gc NaN-ish
"""


def test_samples_and_totals():
    samples = parse_metrics(PAGE)
    assert [sample.name for sample in samples[:2]] == ["vllm:num_requests_running"] * 2
    assert samples[0].labels == {"engine": "0", "model_name": 'a "b", {c}'}
    assert total_by_name(samples) == {
        "num_requests_running": 5.0,
        "iteration_tokens_total_sum": 284.0,
        "process_open_fds": 55.0,
    }
