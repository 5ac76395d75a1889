// Chains and available rings that break the rules, and near misses that keep them.

#include "hostile.h"

#define TABLE_DESCS_MAX 500
#define RNG_ANSWER_MAX (64 * KIB)      // devices-as/rng.ts
#define CHAIN_READABLE_MAX (1 * MIB)   // CHAIN_BYTES_MAX

static struct outcome refused(void) {
  return (struct outcome){.verdict = REFUSED};
}

static struct outcome answered(uint16_t head, uint64_t bytes) {
  if (bytes > RNG_ANSWER_MAX) bytes = RNG_ANSWER_MAX;
  return (struct outcome){.verdict = ANSWERED, .head = head, .bytes = (uint32_t)bytes};
}

/** Offers `count` descriptors of `table`, which is legal where indirect tables were accepted. */
static struct outcome offer_table(const struct virtq_desc *table, uint32_t count,
                                  struct outcome otherwise) {
  uint16_t head = nth_writable(below(writable_count()));
  put_desc(session.desc, head, indirect_desc(table, count));
  offer(head);
  kick();
  if (!session.indirect) return refused();
  otherwise.head = head;
  return otherwise;
}

/** A table that may change while a device reads it: aligned, or not. */
static struct virtq_desc *small_table(void) {
  return indirect_table(one_in(3) ? ODD_TABLE : SMALL_TABLE, below(8));
}

/** `count` writable descriptors, each leading to the next but for the last; returns their bytes. */
static uint64_t fill_table(struct virtq_desc *table, uint32_t count, bool empty) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    struct virtq_desc desc = writable_desc();
    if (empty) desc.len = 0;
    if (i < count - 1) desc.flags |= VIRTQ_DESC_F_NEXT;
    desc.next = (uint16_t)(i + 1);
    put_desc(table, i, desc);
    bytes += desc.len;
  }
  return bytes;
}

/** The same in the queue's own table; the chain begins at nth_writable(0). */
static uint64_t fill_queue(uint32_t count) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    struct virtq_desc desc = writable_desc();
    if (i < count - 1) desc.flags |= VIRTQ_DESC_F_NEXT;
    desc.next = nth_writable(i + 1);
    put_desc(session.desc, nth_writable(i), desc);
    bytes += desc.len;
  }
  return bytes;
}

/** A chain of writable descriptors that ends in `bad`. */
static struct outcome end_with(struct virtq_desc bad) {
  uint32_t count = below(writable_count());
  fill_queue(count);
  if (count) session.desc[nth_writable(count - 1)].flags |= VIRTQ_DESC_F_NEXT;
  put_desc(session.desc, nth_writable(count), bad);
  offer(nth_writable(0));
  kick();
  return refused();
}

struct outcome play_loop(void) {
  bool empty = one_in(4);
  if (one_in(2)) {
    uint32_t count = 1 + below(session.size);
    struct virtq_desc *table = small_table();
    fill_table(table, count, empty);
    struct virtq_desc last = writable_desc();
    if (empty) last.len = 0;
    last.flags |= VIRTQ_DESC_F_NEXT;
    last.next = (uint16_t)below(count);
    put_desc(table, count - 1, last);
    return offer_table(table, count, refused());
  }
  uint32_t count = 1 + below(writable_count());
  fill_queue(count);
  struct virtq_desc last = writable_desc();
  last.flags |= VIRTQ_DESC_F_NEXT;
  last.next = nth_writable(below(count));
  put_desc(session.desc, nth_writable(count - 1), last);
  offer(nth_writable(below(count)));
  kick();
  return refused();
}

struct outcome play_too_long(void) {
  struct virtq_desc *table = small_table();
  bool fits = one_in(4);
  uint32_t room = TABLE_DESCS_MAX - session.size;
  uint32_t count = fits ? session.size : session.size + 1 + below(one_in(2) ? 2 : room);
  uint64_t bytes = fill_table(table, count, one_in(8));
  return offer_table(table, count, fits ? answered(0, bytes) : refused());
}

struct outcome play_nested(void) {
  struct virtq_desc *table = indirect_table(SMALL_TABLE, below(4));
  struct virtq_desc *inner = indirect_table(SMALL_TABLE, 4 + below(4));
  uint16_t head = nth_writable(below(writable_count()));
  fill_table(inner, 2, false);
  struct virtq_desc desc = indirect_desc(table, 2);
  uint32_t fault = below(6);
  if (fault == 0) {  // a table that begins with a table, or ends in one, or is in itself
    put_desc(table, 0, indirect_desc(one_in(3) ? table : inner, 2));
  } else {
    fill_table(table, 2, false);
  }
  if (fault == 1) put_desc(table, 1, indirect_desc(one_in(3) ? table : inner, 2));
  if (fault == 2) desc.flags |= VIRTQ_DESC_F_NEXT;
  if (fault == 3) desc.len = 0;
  if (fault == 4) desc.len = desc.len * (1 + below(50)) - 1 - below(15);
  if (fault == 5) desc.addr = one_in(2) ? RAM_END - 16 : 0 - 16ull;
  put_desc(session.desc, head, desc);
  offer(head);
  kick();
  return refused();
}

struct outcome play_wrap(void) {
  uint64_t below_zero = one_in(3) ? 1 : 1 + below(4096);
  uint32_t more = one_in(3) ? 0 : below(1u << 20);
  return end_with((struct virtq_desc){
      .addr = 0 - below_zero,
      .len = one_in(4) ? 0xffffffff : (uint32_t)below_zero + more,
      .flags = VIRTQ_DESC_F_WRITE,
  });
}

static uint64_t outside(void) {
  switch (below(8)) {
    case 0:
      return RAM_END;
    case 1:
      return RAM_END + below((uint32_t)(0xd0000000 - RAM_END));
    case 2:
      return session.window + below(0x3000);
    case 3:
      return one_in(2) ? 0xfec00000 : 0xfee00000;
    case 4:
      return (1ull << 32) + below(0x1000000);
    case 5:
      return (1ull << (33 + below(31))) + below(4096);
    case 6:
      return (1ull << 32) * (1 + below(0xffffffff)) + SLOTS + SLOT_INSIDE;
    default:
      return RAM_END - 1 - below(4096);  // inside, and `len` crosses the end
  }
}

struct outcome play_outside(void) {
  struct virtq_desc bad = {.addr = outside(), .len = 4097 + below(100000)};
  if (one_in(8)) bad.len = 0x80000000;
  bool readable = one_in(4);
  if (!readable) bad.flags = VIRTQ_DESC_F_WRITE;
  if (!readable && one_in(2)) return end_with(bad);
  uint16_t head = nth_writable(below(writable_count()));
  put_desc(session.desc, head, bad);
  offer(head);
  kick();
  return refused();
}

struct outcome play_order(void) {
  if (session.size < 2) return play_loop();
  uint32_t count = 2 + below(writable_count() - 1);
  fill_queue(count);
  uint16_t middle = nth_writable(1 + below(count - 1));
  struct virtq_desc readable = session.desc[middle];
  readable.flags &= ~VIRTQ_DESC_F_WRITE;
  if (one_in(3)) readable.len = 0;
  put_desc(session.desc, middle, readable);
  offer(nth_writable(0));
  kick();
  return refused();
}

static struct outcome read_table(void) {
  struct virtq_desc *table = indirect_table(READABLE_TABLE, below(8));
  uint32_t count = 1 + below(session.size);
  bool much = one_in(3);
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    struct virtq_desc desc = readable_desc();
    if (much) desc.len = one_in(2) ? 1 + below(1u << 20) : (uint32_t)CHAIN_READABLE_MAX / count;
    if (i < count - 1) desc.flags = VIRTQ_DESC_F_NEXT;
    desc.next = (uint16_t)(i + 1);
    put_desc(table, i, desc);
    bytes += desc.len;
  }
  return offer_table(table, count, bytes > CHAIN_READABLE_MAX ? refused() : answered(0, 0));
}

struct outcome play_readable(void) {
  if (session.size < 4 || one_in(2)) return read_table();
  uint32_t count = below(4);  // of writable ones behind a readable one
  if (count > writable_count()) count = writable_count();
  uint64_t bytes = fill_queue(count);
  uint16_t head = any_readable();
  struct virtq_desc desc = readable_desc();
  if (count) desc.flags = VIRTQ_DESC_F_NEXT;
  desc.next = nth_writable(0);
  put_desc(session.desc, head, desc);
  offer(head);
  kick();
  return answered(head, bytes);
}

// The tables of giants never hold anything else, so no half of a giant meets half of another.
struct outcome play_4_gib(void) {
  if (one_in(3)) {
    return end_with((struct virtq_desc){
        .addr = one_in(2) ? SLOTS + SLOT_INSIDE : GIANT,
        .len = one_in(2) ? 0xffffffff : 0x80000000 + below(0x7fffffff),
        .flags = VIRTQ_DESC_F_WRITE,
    });
  }
  bool over = one_in(2);
  struct virtq_desc *table = indirect_table(GIANT_TABLE, over);
  for (uint32_t i = 0; i < 64; i++) {
    put_desc(table, i, (struct virtq_desc){
        .addr = GIANT,
        .len = (uint32_t)GIANT_BYTES + (over ? 64 : 0),
        .flags = VIRTQ_DESC_F_WRITE | (i < 63 ? VIRTQ_DESC_F_NEXT : 0),
        .next = (uint16_t)(i + 1),
    });
  }
  bool fits = !over && session.size == 64;
  return offer_table(table, 64, fits ? answered(0, RNG_ANSWER_MAX) : refused());
}

struct outcome play_empty(void) {
  uint32_t count = 1 + below(writable_count());
  uint64_t bytes = fill_queue(count);
  for (uint32_t i = 0; i < count; i++) {
    if (count > 1 && one_in(2)) continue;
    struct virtq_desc empty = session.desc[nth_writable(i)];
    bytes -= empty.len;
    empty.len = 0;
    if (one_in(3)) empty.addr = outside();
    put_desc(session.desc, nth_writable(i), empty);
  }
  offer(nth_writable(0));
  kick();
  return answered(nth_writable(0), bytes);
}

struct outcome play_available(void) {
  uint16_t head = nth_writable(0);
  fill_queue(1);
  switch (below(5)) {
    case 0:  // more than a queue ahead
      set_available((uint16_t)(session.available + session.size + 1 +
                               below(one_in(2) ? 1 : 60000)));
      break;
    case 1:  // backwards
      set_available((uint16_t)(session.available - 1 - below(one_in(2) ? 1 : 1000)));
      break;
    case 2:  // heads that are no descriptor
      offer((uint16_t)(session.size + below(one_in(2) ? 1 : 0x10000 - session.size)));
      break;
    case 3:  // a chain that leads out of the table
      put_desc(session.desc, head, (struct virtq_desc){
          .addr = SLOTS + SLOT_INSIDE,
          .len = 64,
          .flags = VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_NEXT,
          .next = (uint16_t)(session.size + below(0x10000 - session.size)),
      });
      offer(head);
      break;
    default:  // the same head twice
      if (session.size == 1) return play_loop();
      session.avail->ring[session.available & (session.size - 1)] = head;
      session.avail->ring[(session.available + 1) & (session.size - 1)] = head;
      counts.mutations += 2;
      set_available(session.available + 2);
  }
  kick();
  return refused();
}
