// The hostile guest: plays every class of bug at random against the first rng device, and uses the
// second one properly all the while.
//
//   seed=1 operations=1000000 ram=128     what is played; RAM in MiB, which must be 128
//   from=0                                the first play; play N is the same wherever it begins
//   step                                  wait for a byte on the console after each percent
//   exit=debug                            see guest.h
//
// An operation is a register access, a kick, or a change of a descriptor, ring entry or index that
// a play makes. Setting up, waiting and checking are not counted.

#include "hostile.h"

#define ROUND_PLAYS 6  // some hundred operations
#define VERDICT_NS_MAX 60000000000ull  // a hang, however slow the machine
#define PROGRESS_STEPS 100

#define COM1 0x3f8
#define COM1_LSR (COM1 + 5)
#define LSR_DR 0x01

static struct class {
  const char *name;
  play *play;
  uint32_t weight;
  uint64_t plays, operations, refused, answered, ignored;
} classes[] = {
    {.name = "a chain that loops", .play = play_loop, .weight = 4},
    {.name = "a chain longer than its queue", .play = play_too_long, .weight = 4},
    {.name = "an indirect table in an indirect table", .play = play_nested, .weight = 4},
    {.name = "address + length beyond 2^64", .play = play_wrap, .weight = 4},
    {.name = "outside RAM, or across its end", .play = play_outside, .weight = 6},
    {.name = "writable before readable", .play = play_order, .weight = 4},
    {.name = "readable buffers for rng", .play = play_readable, .weight = 6},
    {.name = "4 GiB in a request", .play = play_4_gib, .weight = 3},
    {.name = "descriptors of no bytes", .play = play_empty, .weight = 6},
    {.name = "a wrong available ring", .play = play_available, .weight = 6},
    {.name = "queue_select out of range", .play = play_queue_select, .weight = 6},
    {.name = "a wrong or late queue size", .play = play_queue_size, .weight = 4},
    {.name = "rings that overlap or are no RAM", .play = play_rings, .weight = 5},
    {.name = "status bits", .play = play_status, .weight = 8},
    {.name = "features", .play = play_features, .weight = 5},
    {.name = "config accesses of any width", .play = play_config, .weight = 20},
    {.name = "register accesses of any width", .play = play_widths, .weight = 20},
    {.name = "notify of no queue", .play = play_notify, .weight = 20},
    {.name = "registers written at random", .play = play_raw, .weight = 8},
    {.name = "reset in flight", .play = play_reset, .weight = 4},
    {.name = "descriptors rewritten in flight", .play = play_rewrite, .weight = 6},
    {.name = "a descriptor right and wrong by turns", .play = play_flip, .weight = 4},
    {.name = "a queue stopped in flight", .play = play_stop, .weight = 4},
    {.name = "everything at once", .play = play_chaos, .weight = 4},
};
#define CLASS_COUNT (sizeof classes / sizeof classes[0])

static struct class *playing;
static uint64_t seed, play_number, operations_wanted, proofs;
static struct driver attacked, neighbour;
static uint64_t windows[2];

static uint64_t random_state;

// splitmix64
static uint64_t random_u64(void) {
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

void random_seed(uint64_t of, uint64_t play) {
  random_state = of * 0xd1342543de82ef95 ^ play * 0x2545f4914f6cdd1d;
  random_u64();
}

uint32_t random_u32(void) {
  return (uint32_t)(random_u64() >> 32);
}

uint32_t below(uint32_t count) {
  return random_u32() % count;
}

bool one_in(uint32_t count) {
  return below(count) == 0;
}

_Noreturn void fail(const char *what, uint64_t got, uint64_t expected) {
  print("hostile: seed=%u from=%u, %s: %s: 0x%x, expected 0x%x\n", seed, play_number,
        playing ? playing->name : "at the start", what, got, expected);
  print("hostile guest: 0 passed, 1 failed: FAIL\n");
  leave(1);
}

static uint64_t operations(void) {
  return counts.registers + counts.kicks + counts.mutations;
}

static uint32_t used_count(void) {
  return (uint16_t)(session.used->idx - session.seen);
}

static void wait_for(const struct outcome *outcome) {
  uint64_t end = now_ns() + VERDICT_NS_MAX;
  uint64_t patience = 50;  // a register access leaves the guest: seldom
  for (;;) {
    if (used_count()) return;
    if (outcome->verdict == REFUSED || patience-- == 0) {
      if (reg_read(Status) & DEVICE_NEEDS_RESET) return;
      if (now_ns() > end) fail("neither refused nor answered: status", reg_read(Status), 0);
      patience = 5000;
    }
    __asm__ volatile("pause");
  }
}

static void expect_answer(const struct outcome *outcome) {
  if (!used_count()) fail("a legal chain was refused: status", reg_read(Status), 15);
  if (used_count() > 1) fail("used entries for one chain", used_count(), 1);
  uint32_t slot = session.seen++ & (session.size - 1);
  uint32_t id = session.used->ring[slot].id, bytes = session.used->ring[slot].len;
  if (id != outcome->head) fail("the used id", id, outcome->head);
  if (bytes != outcome->bytes) fail("the used length", bytes, outcome->bytes);
}

/** Waits for what must come of a play, and leaves the session running or not. */
static void judge(const struct outcome *outcome) {
  switch (outcome->verdict) {
    case REFUSED:
      wait_for(outcome);
      if (used_count()) fail("a refused chain was answered: used entries", used_count(), 0);
      playing->refused++;
      session.running = false;
      return;
    case TURNED_DOWN:
      playing->refused++;
      session.running = false;
      return;
    case ANSWERED:
      wait_for(outcome);
      expect_answer(outcome);
      playing->answered++;
      return;
    case IGNORED:
      if (reg_read(Status) != 15) fail("a harmless play: status", reg_read(Status), 15);
      if (used_count()) fail("used entries for no request", used_count(), 0);
      playing->ignored++;
      return;
    case ANYTHING:
      spin(below(4000));
      if (reg_read(Status) & DEVICE_NEEDS_RESET) playing->refused++;
      else if (used_count()) playing->answered++;
      else playing->ignored++;
      session.running = false;
      return;
  }
}

static struct class *pick(void) {
  uint32_t total = 0;
  for (size_t i = 0; i < CLASS_COUNT; i++) total += classes[i].weight;
  uint32_t at = below(total);
  struct class *class = classes;
  while (at >= class->weight) at -= class++->weight;
  return class;
}

static void play_one(void) {
  if (!session.running) {
    random_seed(seed << 32, play_number / ROUND_PLAYS);  // alike for all plays of a round
    session_start();
  }
  random_seed(seed, play_number);
  playing = pick();
  uint64_t before = operations();
  counting = true;
  struct outcome outcome = playing->play();
  counting = false;
  playing->plays++;
  playing->operations += operations() - before;
  judge(&outcome);
}

/** Between two rounds of plays: reset, and a driver that keeps the rules is served. */
static void prove(void) {
  driver_start(&attacked, windows[0], 0);
  driver_ask(&attacked);
  driver_expect(&attacked);
  memory_check_part();
  memory_check_slots();
  proofs++;
  session.running = false;
}

static void show_progress(void) {
  static uint64_t shown;
  uint64_t step = operations() * PROGRESS_STEPS / operations_wanted;
  if (step <= shown) return;
  shown = step;
  print("hostile: %u %%\n", step);
  if (!option_is("step", NULL)) return;
  while (!(in8(COM1_LSR) & LSR_DR)) {
  }
  in8(COM1);
}

static void attack(void) {
  driver_start(&neighbour, windows[1], 1);
  while (operations() < operations_wanted) {
    random_seed(~seed, play_number);
    driver_ask(&neighbour);
    if (play_number % ROUND_PLAYS == 0) prove();
    play_one();
    driver_expect(&neighbour);
    show_progress();
    play_number++;
  }
  playing = NULL;
  prove();
  memory_check_all();
  if (virtio_needs_reset(windows[1])) fail("the neighbour needs a reset", 1, 0);
}

static void report(void) {
  for (size_t i = 0; i < CLASS_COUNT; i++) {
    const struct class *class = &classes[i];
    print("hostile: %s: %u plays, %u operations, %u refused, %u answered, %u ignored\n",
          class->name, class->plays, class->operations, class->refused, class->answered,
          class->ignored);
  }
  print("hostile: %u operations: %u register accesses, %u kicks, %u changes\n", operations(),
        counts.registers, counts.kicks, counts.mutations);
  print("hostile: %u plays, %u proofs, %u requests of rng0 and %u of rng1 answered\n", play_number,
        proofs, attacked.answered, neighbour.answered);
}

static void found(uint64_t window, uint32_t number) {
  if (number < 2) windows[number] = window;
}

void main(void) {
  platform_start();
  print("hostile guest: %s\n", command_line());
  seed = option_number("seed", 1, NULL);
  operations_wanted = option_number("operations", 1000000, NULL);
  play_number = option_number("from", 0, NULL);
  if (option_number("ram", 0, NULL) * MIB != RAM_END) fail("RAM", 0, RAM_END);
  if (virtio_each(VIRTIO_ID_RNG, found) < 2) fail("rng devices", windows[0] != 0, 2);
  session.window = windows[0];
  memory_start(seed);
  attack();
  report();
  print("hostile guest: 1 passed, 0 failed: PASS\n");
  leave(0);
}
