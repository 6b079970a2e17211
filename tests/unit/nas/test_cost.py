from __future__ import annotations

from dataclasses import replace

import pytest

from nas.cost import encoder_macs, model_cost
from search_spaces.architecture import Architecture, Block
from search_spaces.reference import BERT_BASE, SQUEEZEBERT

HIDDEN, HEADS, HEAD_SIZE, FFN, TOKENS = 768, 9, 64, 3072, 128
ATTENTION = HEADS * HEAD_SIZE
WIDTHS = {
    "q_groups": (HIDDEN, ATTENTION),
    "k_groups": (HIDDEN, ATTENTION),
    "v_groups": (HIDDEN, ATTENTION),
    "post_attention_groups": (ATTENTION, HIDDEN),
    "intermediate_groups": (HIDDEN, FFN),
    "output_groups": (FFN, HIDDEN),
}


def test_reference_networks_match_the_hand_count() -> None:
    assert encoder_macs(BERT_BASE, sequence_length=128) == 11_173_625_856
    assert encoder_macs(SQUEEZEBERT, sequence_length=128) == 3_699_376_128


def test_whole_reference_networks_match_their_published_sizes() -> None:
    bert, squeezebert = (model_cost(arch, sequence_length=128, num_labels=2) for arch in (BERT_BASE, SQUEEZEBERT))

    assert (bert.parameters, squeezebert.parameters) == (109_483_778, 51_091_202)
    # Pooler 768 * 768, head 768 * 2, 25 layer norms of 128 * 768 elements at 5 operations.
    assert bert.macs - bert.encoder_macs == 589_824 + 1_536 + 25 * 5 * 128 * 768
    assert squeezebert.flops == 2 * squeezebert.macs == 7_424_510_976


@pytest.mark.parametrize("field", WIDTHS)
def test_each_group_count_divides_its_own_layer_only(field: str) -> None:
    c_in, c_out = WIDTHS[field]
    dense = Block(num_attention_heads=HEADS, intermediate_size=FFN)
    grouped = replace(dense, **{field: 3})

    saved = _macs(dense) - _macs(grouped)

    assert saved == TOKENS * c_in * c_out * 2 // 3


def test_a_head_less_saves_its_share_of_four_layers_and_two_products() -> None:
    block = Block(num_attention_heads=HEADS, intermediate_size=FFN)

    saved = _macs(block) - _macs(replace(block, num_attention_heads=HEADS - 1))

    assert saved == 4 * TOKENS * HIDDEN * HEAD_SIZE + 2 * TOKENS * TOKENS * HEAD_SIZE


def _macs(block: Block) -> int:
    arch = Architecture(hidden_size=HIDDEN, attention_head_size=HEAD_SIZE, blocks=(block,))
    return encoder_macs(arch, sequence_length=TOKENS)
