// How long requests took: counts in steps of a thirty-second of an octave, which is 2 to 3 percent.

#include "guest.h"

static uint32_t step_of(uint64_t ns) {
  if (ns < HISTOGRAM_STEPS) ns = HISTOGRAM_STEPS;
  uint32_t octave = 63 - (uint32_t)__builtin_clzll(ns);
  return octave * HISTOGRAM_STEPS + (ns >> (octave - HISTOGRAM_SHIFT) & (HISTOGRAM_STEPS - 1));
}

void histogram_add(struct histogram *histogram, uint64_t ns) {
  histogram->counts[step_of(ns)]++;
  histogram->total++;
}

uint64_t histogram_percentile(const struct histogram *histogram, uint64_t percent) {
  uint64_t rank = (histogram->total * percent + 99) / 100, below = 0;
  for (uint32_t i = 0; i < 64 * HISTOGRAM_STEPS; i++) {
    below += histogram->counts[i];
    uint64_t mantissa = HISTOGRAM_STEPS + i % HISTOGRAM_STEPS;
    if (below >= rank && below) return mantissa << (i / HISTOGRAM_STEPS) >> HISTOGRAM_SHIFT;
  }
  return 0;
}
