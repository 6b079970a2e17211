"""The closed form equals fvcore's trace of the built network, to the last digit."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.cost import model_cost
from nas.flops import operator_macs, traced_macs
from search_spaces.architecture import Architecture
from search_spaces.bert import build
from tests.strategies import architectures


@pytest.mark.torch
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(architectures(max_layers=3), st.integers(1, 16), st.integers(1, 5))
def test_closed_form_trace_and_operator_sum_agree(arch: Architecture, sequence_length: int, num_labels: int) -> None:
    cost = model_cost(arch, sequence_length=sequence_length, num_labels=num_labels)

    assert traced_macs(arch, sequence_length=sequence_length, num_labels=num_labels) == cost.macs
    assert operator_macs(arch, sequence_length=sequence_length, num_labels=num_labels) == cost.macs


@pytest.mark.torch
@settings(max_examples=25, deadline=None)
@given(architectures(max_layers=3), st.integers(1, 5))
def test_counted_parameters_are_those_of_the_network(arch: Architecture, num_labels: int) -> None:
    network = build(arch, num_labels=num_labels)

    counted = sum(parameter.numel() for parameter in network.parameters())

    assert model_cost(arch, sequence_length=1, num_labels=num_labels).parameters == counted
