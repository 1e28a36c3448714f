"""Parsing the text of a program as compiled for TPUs."""

import pytest

from bert_jax.aot import hlo

TPU = """\
HloModule jit_step, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  %inner.1 = f32[8]{0} add(%p, %p), backend_config={"estimated_cycles":"999"}
  ROOT %all-reduce.9 = f32[8]{0} all-reduce(%inner.1), to_apply=%sum
}

%started (p: bf16[4,2]) -> bf16[8,2] {
  ROOT %all-gather.2 = bf16[8,2]{1,0} all-gather(%inner.2), dimensions={0}
}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %inner.3 = f32[16]{0:T(256)S(1)} fusion(%p), calls=%fused, \
backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %reduce-scatter.1 = f32[4]{0} reduce-scatter(%inner.3), dimensions={0}
}

ENTRY %main_spmd (p: f32[8]) -> f32[8] {
  %inner.2 = bf16[4,2]{1,0} parameter(0)
  %all-reduce.5 = (f32[]{:T(128)}, f32[8,2]{1,0}) \
all-reduce(%scalar.1, /*index=1*/%matrix.1), \
backend_config={"estimated_cycles":"7"}
  %scalar.1 = f32[]{:T(128)} constant(0)
  %matrix.1 = f32[8,2]{1,0} constant(0)
  %loop = (s32[], f32[8]) while(%tuple), condition=%unknown, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %begun = (bf16[4,2], bf16[8,2]) async-start(%inner.2), calls=%started
  %done = bf16[8,2] async-done(%begun), calls=%started
  %gather-start = (f32[3]{0}, f32[12]{0}) all-gather-start(%three.1)
  %three.1 = f32[3]{0} constant(0)
  ROOT %gather-done = f32[12]{0} all-gather-done(%gather-start)
}
"""


def test_loops_count_by_trips_and_fusions_once():
  assert hlo.estimated_cycles(hlo.parse(TPU)) == 7 + 5 * 100


def test_trip_counts_from_the_condition_of_a_loop():
  condition = """\
%counted (p: (s32[], f32[8])) -> pred[] {
  %end = s32[]{:T(128)} constant(64)
  %at = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %less = pred[]{:T(512)} compare(%at, %end), direction=LT
}

ENTRY"""
  text = TPU.replace("ENTRY", condition)
  text = text.replace('"known_trip_count":{"n":"5"}', "")
  program = hlo.parse(text.replace("%unknown", "%counted"))
  assert hlo.estimated_cycles(program) == 7 + 64 * 100
  # Nothing tells how often: at least once.
  assert hlo.estimated_cycles(hlo.parse(text)) == 7 + 100


def test_bytes_of_each_kind_of_collective():
  assert hlo.collective_bytes(hlo.parse(TPU)) == {
    "all-reduce": (4 + 64) + 5 * 32,
    "reduce-scatter": 5 * 64,
    "all-gather": 32 + 48,
  }


@pytest.mark.parametrize("text", ["", "no program at all", "ENTRY %x () {\n}"])
def test_a_text_without_instructions(text):
  program = hlo.parse(text)
  assert hlo.estimated_cycles(program) == 0
  assert hlo.collective_bytes(program) == {}


def test_products_of_integers_are_counted_by_trips():
  products = """\
  %product.1 = s32[8,2]{1,0} convolution(%a, %b), dim_labels=bf_io->bf
  %product.2 = bf16[8,2]{1,0} convolution(%a, %b), dim_labels=bf_io->bf
  ROOT %reduce-scatter.1"""
  text = TPU.replace("  ROOT %reduce-scatter.1", products)
  assert hlo.integer_products(hlo.parse(TPU)) == 0
  assert hlo.integer_products(hlo.parse(text)) == 5
