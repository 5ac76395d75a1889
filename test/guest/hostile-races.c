// What a driver changes while a device is at work. Whichever half of a change the device saw, it
// was told of sacrificial memory or of no RAM: in these plays a descriptor of the queue is either a
// buffer or an indirect table for as long as the device runs.

#include "hostile.h"

#define PAINTED_SLOTS 16
#define ANSWER_ROUNDS_MAX 50000  // a millisecond or so

static bool leads_to_table(uint32_t index) {
  return session.indirect && index % 8 == 0;
}

#define BAD_AT_FIRST 400   // a queue of good chains, most of them,
#define BAD_IN_FLIGHT 50   // and now and then a change that is wrong

/** A buffer, one in `odds` of them wrong; of two of them any mixture is in a slot, or no RAM. */
static struct virtq_desc any_buffer(uint32_t size, uint32_t odds) {
  struct virtq_desc desc = writable_desc();
  if (one_in(4)) desc.flags |= VIRTQ_DESC_F_NEXT;
  desc.next = (uint16_t)below(size);
  if (!one_in(odds)) return desc;
  switch (below(6)) {
    case 0:
      desc.addr = RAM_END + below(0x1000000);
      break;
    case 1:
      desc.addr = ~0ull - below(16);
      break;
    case 2:
      desc.addr |= 1ull << (32 + below(32));
      break;
    case 3:
      desc.len = one_in(2) ? 0 : 0xffffffff;
      break;
    case 4:
      desc.flags &= ~VIRTQ_DESC_F_WRITE;
      break;
    default:
      desc.next = (uint16_t)random_u32();
  }
  return desc;
}

static struct virtq_desc any_table(void) {
  struct virtq_desc desc = indirect_desc(indirect_table(SMALL_TABLE, below(8)), 1 + below(64));
  if (one_in(BAD_AT_FIRST)) desc.len = below(2048);
  return desc;
}

static struct virtq_desc any_desc(uint32_t index, uint32_t odds) {
  return leads_to_table(index) ? any_table() : any_buffer(session.size, odds);
}

static void change_desc(void) {
  uint32_t index = below(session.size);
  put_desc(session.desc, index, any_desc(index, BAD_IN_FLIGHT));
}

/** Until now the tables held other things, and nobody reads them yet. */
static void fill_all(void) {
  for (uint32_t i = 0; i < 64; i++) session.desc[i] = any_desc(i, BAD_AT_FIRST);
  for (uint32_t number = 0; number < 8; number++) {
    struct virtq_desc *table = indirect_table(SMALL_TABLE, number);
    for (uint32_t i = 0; i < 64; i++) table[i] = any_buffer(64, BAD_AT_FIRST);
  }
}

static struct virtq_desc painted_desc(void) {
  struct virtq_desc desc = writable_desc();
  desc.addr = SLOTS + below(PAINTED_SLOTS) * SLOT_BYTES + SLOT_INSIDE + below(1024);
  return desc;
}

/** `count` chains that keep the rules, in the first slots: of a small buffer, or of many. */
static void offer_good(uint32_t count) {
  bool large = session.indirect && one_in(2);
  struct virtq_desc *table = indirect_table(SMALL_TABLE, 0);
  uint32_t segments = large ? 1 + below(session.size / 2 + 1) : 0;
  for (uint32_t i = 0; i < segments; i++) {
    struct virtq_desc desc = painted_desc();
    if (i < segments - 1) desc.flags |= VIRTQ_DESC_F_NEXT;
    desc.next = (uint16_t)(i + 1);
    put_desc(table, i, desc);
  }
  for (uint32_t i = 0; i < count; i++) {
    put_desc(session.desc, i, large ? indirect_desc(table, segments) : painted_desc());
    offer((uint16_t)i);
  }
}

/** Until an answer is there: right behind that the VMM looks for more chains, unasked. */
static void await_answer(uint16_t used) {
  for (uint32_t i = 0; i < ANSWER_ROUNDS_MAX && session.used->idx == used; i++) spin(1);
}

/** Another one each time, for as long as there are others. */
static uint16_t next_head(void) {
  return session.available & (session.size - 1);
}

struct outcome play_reset(void) {
  for (uint32_t count = 1 + below(4); count > 0; count--) {
    offer_good(1 + below(session.size));
    kick();
    if (one_in(2)) spin(below(4000));
    reg_write(Status, 0);
    // From here on the buffers are the driver's again.
    memory_repaint(PAINTED_SLOTS);
    uint16_t used = session.used->idx;
    if (one_in(2)) spin(below(8000));
    if (one_in(4)) kick();
    memory_check_painted(PAINTED_SLOTS);
    if (session.used->idx != used) fail("used->idx moved after a reset", session.used->idx, used);
    session_start();
    if (one_in(2)) spin(below(2000));
    memory_check_painted(PAINTED_SLOTS);
    if (session.used->idx != 0) fail("used->idx moved without a request", session.used->idx, 0);
  }
  session.running = false;  // it is this play's own
  return (struct outcome){.verdict = IGNORED};
}

struct outcome play_rewrite(void) {
  fill_all();
  uint32_t chains = 1 + below(session.size);
  uint16_t used = session.used->idx;
  for (uint32_t i = 0; i < chains; i++) {
    if (i == chains / 2) kick();
    offer(next_head());
  }
  if (one_in(2)) await_answer(used);
  for (uint32_t count = 200 + below(400); count > 0; count--) {
    uint32_t index = below(64);
    switch (below(8)) {
      case 0:  // an entry that may not have been read yet
        if (!one_in(8)) break;
        session.avail->ring[below(session.size)] = (uint16_t)below(session.size + one_in(32));
        counts.mutations++;
        break;
      case 1:
      case 2:
      case 3:
        put_desc(indirect_table(SMALL_TABLE, below(8)), index, any_buffer(64, BAD_IN_FLIGHT));
        break;
      default:
        change_desc();
    }
    if (one_in(32)) kick();
    if (one_in(256)) offer(next_head());
  }
  return (struct outcome){.verdict = ANYTHING};
}

/** `good` with one thing wrong; of both any mixture is in a slot, or no RAM. */
static struct virtq_desc spoil(struct virtq_desc good) {
  switch (below(5)) {
    case 0:
      good.len = 0xfffffff0;
      break;
    case 1:
      good.addr = RAM_END + below(0x1000000);
      break;
    case 2:
      good.addr |= 1ull << (32 + below(32));
      break;
    case 3:
      good.flags |= VIRTQ_DESC_F_NEXT;
      good.next = (uint16_t)random_u32();
      break;
    default:
      good.len = 0;
  }
  return good;
}

/** Chains that all lead to one descriptor, `kind` of way; returns where that is. */
static struct virtq_desc *share(uint32_t kind, struct virtq_desc good) {
  struct virtq_desc *table = indirect_table(SMALL_TABLE, 0);
  uint32_t last = session.size - 1;
  for (uint32_t i = 0; i < last; i++) {
    struct virtq_desc head = kind == 1 ? indirect_desc(table, 2) : writable_desc();
    if (kind != 1) head.flags |= VIRTQ_DESC_F_NEXT;
    head.next = (uint16_t)last;
    session.desc[i] = head;
  }
  table[0] = writable_desc();
  if (kind == 1) table[0].flags |= VIRTQ_DESC_F_NEXT;
  table[0].next = 1;
  struct virtq_desc *shared = kind == 1 ? &table[1] : &session.desc[last];
  *shared = good;
  return shared;
}

// A descriptor that is right and wrong by turns while it is read. A kick may well put the VMM on
// this CPU until it has read everything; an answer by the device's process does not, so the chain
// that is of interest is made available behind one that was kicked. Few at a time, because one that
// was read while it was wrong takes all others with it.
struct outcome play_flip(void) {
  uint32_t kind = session.indirect ? below(3) : 0;
  if (session.size == 1) kind = 0;
  struct virtq_desc good = writable_desc();
  if (kind == 2) good = indirect_desc(indirect_table(SMALL_TABLE, 0), 1);
  struct virtq_desc *shared = share(kind, good);
  struct virtq_desc bad = spoil(good);
  uint32_t heads = session.size == 1 ? 1 : session.size - 1;
  for (uint32_t head = 0; head < heads && !one_in(8);) {
    uint16_t used = session.used->idx;
    offer((uint16_t)head++);
    kick();
    if (head < heads) offer((uint16_t)head++);
    bool aimed = !one_in(4);
    if (aimed) await_answer(used);
    uint32_t pause = aimed ? 1 : below(20);
    for (uint32_t flips = 80; flips > 0; flips--) {
      put_desc(shared, 0, flips % 2 ? bad : good);
      spin(pause);
    }
    put_desc(shared, 0, good);
  }
  return (struct outcome){.verdict = ANYTHING};
}

struct outcome play_stop(void) {
  offer_good(1 + below(session.size));
  kick();
  if (one_in(2)) spin(below(4000));
  reg_write(QueueReady, 0);
  if (one_in(2)) reg_write(QueueReady, 1);
  kick();
  return (struct outcome){.verdict = ANYTHING};
}

struct outcome play_chaos(void) {
  fill_all();
  for (uint32_t count = 100 + below(300); count > 0; count--) {
    switch (below(12)) {
      case 0:
        if (one_in(16)) set_available((uint16_t)(session.available + below(130) - 65));
        break;
      case 1:
        reg_read(below(0x40) * 4);
        break;
      case 2:
        session.avail->flags = (uint16_t)below(4);
        counts.mutations++;
        break;
      case 3:
        session.avail->ring[session.size] = (uint16_t)random_u32();  // used_event
        counts.mutations++;
        break;
      case 4:
      case 5:
        offer(one_in(32) ? (uint16_t)below(session.size + 1) : next_head());
        break;
      case 6:
      case 7:
        kick();
        break;
      case 8:
        if (one_in(8)) session_start(), fill_all();
        break;
      default:
        change_desc();
    }
  }
  return (struct outcome){.verdict = ANYTHING};
}
