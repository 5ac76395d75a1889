// The oracle: a pattern over all RAM that a device may not write.

#include "hostile.h"

#define PART_BYTES (512 * KIB)
#define PART_FIRST (4 * MIB)  // behind the stages, which their drivers check
#define GAP_BYTES_MIN 64
#define GAP_BYTES_VARIED 512

extern const uint8_t text_end[];  // guest.ld: end of what the program never writes

static uint64_t salt, program_sum;

// No word of it, read as an address, is RAM: a device that takes guarded memory or half-written
// buffers for descriptors is told nothing.
static uint64_t pattern(uint64_t address) {
  return ((address ^ salt) * 0x9e3779b97f4a7c15) | 1ull << 63;
}

static void paint(uint64_t start, uint64_t bytes) {
  for (uint64_t at = start; at < start + bytes; at++) {
    if (at % 8 == 0 && at + 8 <= start + bytes) {
      *(uint64_t *)at = pattern(at);
      at += 7;
    } else {
      *(uint8_t *)at = (uint8_t)(pattern(at & ~7ull) >> at % 8 * 8);
    }
  }
}

static void check_byte(uint64_t at) {
  uint8_t expected = (uint8_t)(pattern(at & ~7ull) >> at % 8 * 8);
  uint8_t found = *(volatile uint8_t *)at;
  if (found == expected) return;
  print("hostile: byte at 0x%x is 0x%x and not 0x%x\n", at, (uint64_t)found, (uint64_t)expected);
  fail("guarded memory was written", at, 0);
}

static void check(uint64_t start, uint64_t end) {
  uint64_t at = start;
  for (; at < end && at % 8; at++) check_byte(at);
  for (; at + 8 <= end; at += 8) {
    if (*(volatile uint64_t *)at == pattern(at)) continue;
    for (uint64_t byte = at; byte < at + 8; byte++) check_byte(byte);
  }
  for (; at < end; at++) check_byte(at);
}

// Below the arena: boot tables and this program, without what it writes itself and what the CPU
// writes (page tables, the clock). RSP0 at address 4 is written once, before.
static uint64_t sum_program(void) {
  uint64_t sum = 0;
  const volatile uint64_t *word = (const volatile uint64_t *)8;  // not NULL
  for (; word < (const volatile uint64_t *)text_end; word++) sum = (sum ^ *word) * 0x100000001b3;
  return sum;
}

void memory_start(uint64_t seed) {
  salt = seed * 0xd6e8feb86659fd93 & 0xfffffffffff8;
  paint(ARENA, RINGS - ARENA);
  program_sum = sum_program();
}

void memory_check_slots(void) {
  for (uint64_t slot = 0; slot < SLOT_COUNT; slot++) {
    uint64_t start = SLOTS + slot * SLOT_BYTES;
    check(start, start + SLOT_INSIDE);
    check(start + SLOT_INSIDE + SLOT_INSIDE_BYTES, start + SLOT_BYTES);
  }
}

static void check_part(uint64_t start) {
  uint64_t end = start + PART_BYTES;
  if (start >= SLOTS && start < SLOTS + SLOT_COUNT * SLOT_BYTES) {
    memory_check_slots();
  } else if (start < GIANT || start >= GIANT + GIANT_ANSWER_MAX) {
    check(start, end);
  }
}

void memory_check_part(void) {
  static uint64_t next = PART_FIRST;
  check_part(next);
  next += PART_BYTES;
  if (next == RINGS) next = PART_FIRST;
}

void memory_check_all(void) {
  check(STAGES + 2 * STAGE_BYTES, PART_FIRST);
  for (uint64_t at = PART_FIRST; at < RINGS; at += PART_BYTES) check_part(at);
  if (sum_program() != program_sum) fail("the program or the boot tables were written", 0, 0);
}

void memory_repaint(uint32_t count) {
  for (uint64_t i = 0; i < count; i++) {
    paint(SLOTS + i * SLOT_BYTES + SLOT_INSIDE, SLOT_INSIDE_BYTES);
  }
}

void memory_check_painted(uint32_t count) {
  check(SLOTS, SLOTS + count * SLOT_BYTES);
}

static void check_written(const uint8_t *bytes, uint32_t count) {
  uint32_t zero = 0, kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t at = (uint64_t)&bytes[i];
    zero += bytes[i] == 0;
    kept += bytes[i] == (uint8_t)(pattern(at & ~7ull) >> at % 8 * 8);
  }
  if (zero == count) fail("zeros for an answer", (uint64_t)bytes, count);
  if (kept == count) fail("a buffer that was not written", (uint64_t)bytes, count);
}

void memory_check_random(const uint8_t *buffer, uint32_t bytes) {
  check_written(buffer, 8);
  check_written(buffer + bytes - 8, 8);
}

void stage_open(struct stage *stage, uint32_t number) {
  stage->start = stage->at = STAGES + number * STAGE_BYTES;
  stage->count = 0;
  paint(stage->start, STAGE_BYTES);
}

void *stage_allocate(struct stage *stage, uint64_t bytes, uint64_t align) {
  uint64_t start = stage->at + GAP_BYTES_MIN + below(GAP_BYTES_VARIED);
  start = (start + align - 1) & ~(align - 1);
  stage->at = start + bytes;
  if (stage->count == 32 || stage->at + GAP_BYTES_MIN > stage->start + STAGE_BYTES) {
    fail("a stage is too small", stage->at - stage->start, STAGE_BYTES);
  }
  stage->ranges[stage->count++] = (struct range){start, bytes};
  return (void *)start;
}

void stage_check(struct stage *stage, uint32_t keep) {
  uint64_t at = stage->start;
  for (uint32_t i = 0; i < stage->count; i++) {
    const struct range *range = &stage->ranges[i];
    check(at, range->start);
    at = range->start + range->bytes;
    if (i >= keep) paint(range->start, range->bytes);
  }
  check(at, stage->start + STAGE_BYTES);
  if (keep >= stage->count) return;
  stage->count = keep;
  stage->at = keep ? stage->ranges[keep - 1].start + stage->ranges[keep - 1].bytes : stage->start;
}
