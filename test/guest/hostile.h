// The pieces of the hostile guest. It attacks one rng device with every class of bug that guests
// are known to have triggered in VMMs, and uses another one properly at the same time.
//
// Every byte of RAM is one of three things, so that the check of what a device wrote is exact:
//   guarded       holds a pattern and was never offered as writable: it must never change
//   sacrificial   was offered as writable by a hostile chain or ring, at any time
//   staged        a request that keeps the rules: it must change as asked, and nothing around it
#pragma once

#include "guest.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)

// The map; RAM is RAM_END bytes, which the command line repeats (`ram=128`).
#define RAM_END (128 * MIB)
#define ARENA (2 * MIB)          // guarded from here on, but for what follows
#define STAGES (2 * MIB)         // requests that keep the rules; one stage a device
#define STAGE_BYTES (64 * KIB)
#define READABLE (4 * MIB)       // what hostile chains offer to read; guarded
#define READABLE_BYTES (16 * MIB)
#define SLOTS (24 * MIB)         // what hostile chains offer to write: the inside of each slot
#define SLOT_COUNT 128
#define SLOT_BYTES (8 * KIB)
#define SLOT_INSIDE (2 * KIB)    // where the inside begins; around it a slot is guarded
#define SLOT_INSIDE_BYTES (4 * KIB)
#define GIANT (32 * MIB)         // 64 MiB and a bit, offered 64 times in a chain: 4 GiB
#define GIANT_BYTES (64 * MIB)
#define GIANT_ANSWER_MAX (1 * MIB)  // the VMM cuts a chain there; behind it GIANT is guarded
#define RINGS (126 * MIB)        // hostile rings and indirect tables
#define TAIL (RAM_END - 64 * KIB)   // offered by addresses just below the end of RAM

// hostile.c: decisions of play N depend on the seed and N alone.
void random_seed(uint64_t seed, uint64_t play);
uint32_t random_u32(void);
/** From 0 to `count` - 1. */
uint32_t below(uint32_t count);
bool one_in(uint32_t count);

/** Says what is wrong, with seed and play, and leaves with FAIL. */
_Noreturn void fail(const char *what, uint64_t got, uint64_t expected);

// hostile-memory.c: the pattern, and what was written over it.
void memory_start(uint64_t seed);
/** Checks a part of the guarded memory, another one each time. */
void memory_check_part(void);
void memory_check_slots(void);
/** Checks all of it, and the program itself. */
void memory_check_all(void);
/** The insides of the first `count` slots get the pattern back, and must keep it until checked. */
void memory_repaint(uint32_t count);
void memory_check_painted(uint32_t count);

/** A piece of guarded memory in which proper requests are made, with a gap around each range. */
struct stage {
  uint64_t start;
  uint64_t at;
  uint32_t count;
  struct range {
    uint64_t start, bytes;
  } ranges[32];
};
void stage_open(struct stage *stage, uint32_t number);
void *stage_allocate(struct stage *stage, uint64_t bytes, uint64_t align);
/** Everything between the ranges is unchanged; those from `keep` on are given back. */
void stage_check(struct stage *stage, uint32_t keep);
/** `buffer` holds what a device wrote: neither the pattern nor zeros, at either end. */
void memory_check_random(const uint8_t *buffer, uint32_t bytes);

// hostile-driver.c: counted accesses, the hostile session and the proper driver.

/** What the plays did; what only sets up, waits and checks is not in it. */
struct counts {
  uint64_t registers;  // accesses that leave the guest
  uint64_t kicks;
  uint64_t mutations;  // a descriptor, a ring entry, an index
};
extern struct counts counts;
extern bool counting;

uint64_t access_read(uint64_t address, uint32_t width);
void access_write(uint64_t address, uint32_t width, uint64_t value);

/** The hostile side of a queue: an address that it offers as writable is always sacrificial. */
struct session {
  uint64_t window;
  bool running;
  bool indirect;
  uint32_t size;
  uint16_t available;  // avail->idx as written last
  uint16_t seen;       // used->idx up to which answers were taken
  struct virtq_desc *desc;
  volatile struct virtq_avail *avail;
  volatile struct virtq_used *used;
};
extern struct session session;

uint32_t reg_read(uint32_t offset);
void reg_write(uint32_t offset, uint32_t value);
/** Reset, features and FEATURES_OK; the queue is not set up, DRIVER_OK not set. */
void session_begin(void);
/** Points the queue at rings of its own, not ready yet. */
void session_rings(void);
/** session_begin(), and a queue that runs. */
void session_start(void);
void put_desc(struct virtq_desc *table, uint32_t index, struct virtq_desc desc);
/** Makes `head` available. */
void offer(uint16_t head);
void set_available(uint16_t index);
void kick(void);
void spin(uint32_t rounds);

// Descriptors and tables of the session. One that is ever writable only ever has addresses that are
// sacrificial or not RAM, whatever half of it a device reads before and after it changes.
struct virtq_desc writable_desc(void);
struct virtq_desc readable_desc(void);
/** The n-th descriptor of the queue that may be writable, and how many there are. */
uint16_t nth_writable(uint32_t n);
uint32_t writable_count(void);
/** One for readable buffers only, if the queue has 4 or more. */
uint16_t any_readable(void);
enum table_kind { SMALL_TABLE, ODD_TABLE, READABLE_TABLE, GIANT_TABLE };
struct virtq_desc *indirect_table(enum table_kind kind, uint32_t number);
struct virtq_desc indirect_desc(const struct virtq_desc *table, uint32_t count);

#define REQUESTS_MAX 4
#define SEGMENTS_MAX 3
/** A driver that keeps the rules. */
struct driver {
  struct stage stage;
  struct device device;
  struct queue queue;
  uint64_t answered;
  uint32_t pending;
  struct request {
    uint32_t segments, bytes;
    struct virtq_desc chain[SEGMENTS_MAX];
  } requests[REQUESTS_MAX];
};
void driver_start(struct driver *driver, uint64_t window, uint32_t stage);
/** 1 to 4 requests, published together. */
void driver_ask(struct driver *driver);
/** Waits for the answers and checks them, and all memory around them. */
void driver_expect(struct driver *driver);

// The plays.
enum verdict {
  REFUSED,      // DEVICE_NEEDS_RESET
  TURNED_DOWN,  // refused in another way, which the play has checked
  ANSWERED,     // one used entry, of `bytes` bytes for `head`
  IGNORED,      // nothing happens, and the device goes on
  ANYTHING,     // anything but damage
};
struct outcome {
  enum verdict verdict;
  uint16_t head;
  uint32_t bytes;
};
typedef struct outcome play(void);
// hostile-chains.c
play play_loop, play_too_long, play_nested, play_wrap, play_outside, play_order, play_readable,
    play_4_gib, play_empty, play_available;
// hostile-registers.c
play play_queue_select, play_queue_size, play_rings, play_status, play_features, play_config,
    play_widths, play_notify, play_raw;
// hostile-races.c
play play_reset, play_rewrite, play_flip, play_stop, play_chaos;
