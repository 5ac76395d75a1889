// A polling virtio-blk driver (virtio v1.2 §5.2): writes to every disk, flushes, reads back and
// compares, or, with `bench`, measures how fast it goes.
//
//   bytes=1048576 depth=1 request=4096 rounds=1 seed=1   what is written and read, in which pieces
//   check                                                reads and compares only: of an earlier run
//   bench seconds=2 [write] [random]                     measure instead
//   timeout=30                                           seconds without any answer, then it fails
//   mmio=BASE,STEP,COUNT, exit=…                         see entropy.c

#include "guest.h"

#define VIRTIO_ID_BLOCK 2
#define VIRTIO_BLK_F_FLUSH (1ull << 9)
#define VIRTIO_BLK_T_IN 0
#define VIRTIO_BLK_T_OUT 1
#define VIRTIO_BLK_T_FLUSH 4
#define VIRTIO_BLK_S_OK 0
#define MMIO_CONFIG 0x100  // (§4.2.2)

#define NS_PER_SECOND 1000000000ull
#define DEPTH_MAX 64
#define DESCRIPTORS 3  // header, data, status
#define SECTOR_BYTES 512

struct header {
  uint32_t type, reserved;
  uint64_t sector;
};

struct slot {
  struct header *header;
  uint8_t *data;
  volatile uint8_t *status;
  uint64_t at;     // byte of the disk
  uint32_t bytes;  // of the request in flight, which may be none of a flush
  bool busy;
  uint64_t since;
};

static struct job {
  struct device device;
  struct queue queue;
  struct slot slots[DEPTH_MAX];
  uint32_t number, depth, request, type, busy;
  bool bench, random, compares;
  uint64_t capacity, seed, state;
  uint64_t next, end, deadline;  // of the pass that is under way
  uint64_t moved, answered;
  struct histogram latency;
} job;

static uint32_t passed, failed;

static bool fail(const char *what) {
  print("blk%u: %s\n", (uint64_t)job.number, what);
  return false;
}

// What belongs at a place of the disk: another word at each place, and in each round.
static uint64_t word_at(uint64_t at) {
  uint64_t word = (at / 8 + 1) * 0x9e3779b97f4a7c15ull + job.seed * 0xd1342543de82ef95ull;
  return word ^ word >> 29;
}

static void fill(struct slot *slot) {
  for (uint32_t i = 0; i < slot->bytes; i += 8) {
    *(uint64_t *)(slot->data + i) = word_at(slot->at + i);
  }
}

static bool compare(const struct slot *slot) {
  for (uint32_t i = 0; i < slot->bytes; i += 8) {
    uint64_t found = *(const uint64_t *)(slot->data + i), expected = word_at(slot->at + i);
    if (found == expected) continue;
    print("blk%u: byte %u of the disk begins 0x%x, not 0x%x\n", (uint64_t)job.number, slot->at + i,
          found, expected);
    return false;
  }
  return true;
}

static uint64_t random_number(void) {  // xorshift64
  job.state ^= job.state << 13;
  job.state ^= job.state >> 7;
  return job.state ^= job.state << 17;
}

static void offer(uint32_t index, uint64_t at, uint32_t bytes) {
  struct slot *slot = &job.slots[index];
  struct virtq_desc *chain = job.queue.desc + index * DESCRIPTORS;
  slot->at = at;
  slot->bytes = bytes;
  slot->busy = true;
  slot->header->type = job.type;
  slot->header->sector = job.type == VIRTIO_BLK_T_FLUSH ? 0 : at / SECTOR_BYTES;
  *slot->status = 0xff;
  if (job.type == VIRTIO_BLK_T_OUT && !job.bench) fill(slot);
  uint16_t data = job.type == VIRTIO_BLK_T_IN ? VIRTQ_DESC_F_WRITE : 0;
  uint16_t first = (uint16_t)(index * DESCRIPTORS);
  chain[0] = (struct virtq_desc){(uint64_t)slot->header, sizeof *slot->header, VIRTQ_DESC_F_NEXT,
                                 (uint16_t)(bytes ? first + 1 : first + 2)};
  chain[1] = (struct virtq_desc){(uint64_t)slot->data, bytes, (uint16_t)(data | VIRTQ_DESC_F_NEXT),
                                 (uint16_t)(first + 2)};
  chain[2] = (struct virtq_desc){(uint64_t)slot->status, 1, VIRTQ_DESC_F_WRITE, 0};
  slot->since = now_ns();
  job.busy++;
  queue_offer(&job.queue, first);
}

// Asks for the next piece of the pass, if there is one.
static void offer_next(uint32_t index) {
  if (job.bench) {
    if (now_ns() >= job.deadline) return;
    uint64_t pieces = job.end / job.request;
    uint64_t piece = job.random ? random_number() % pieces : job.next++ % pieces;
    return offer(index, piece * job.request, job.request);
  }
  if (job.next >= job.end) return;
  uint64_t rest = job.end - job.next;
  uint32_t bytes = rest < job.request ? (uint32_t)rest : job.request;
  offer(index, job.next, bytes);
  job.next += bytes;
}

static bool answered(uint32_t head, uint32_t used) {
  uint32_t index = head / DESCRIPTORS;
  if (index >= job.depth || head % DESCRIPTORS) return fail("unknown used id");
  struct slot *slot = &job.slots[index];
  if (!slot->busy) return fail("a used id that is not in flight");
  uint32_t expected = job.type == VIRTIO_BLK_T_IN ? slot->bytes + 1 : 1;
  if (used != expected) return fail("another length used than was offered");
  if (*slot->status != VIRTIO_BLK_S_OK) return fail("a request failed");
  if (job.bench) histogram_add(&job.latency, now_ns() - slot->since);
  if (job.compares && !compare(slot)) return false;
  job.moved += slot->bytes;
  job.answered++;
  job.busy--;
  slot->busy = false;
  if (job.type != VIRTIO_BLK_T_FLUSH) offer_next(index);
  return true;
}

static bool exchange(bool *moved) {
  uint32_t head, bytes;
  *moved = false;
  while (queue_take(&job.queue, &head, &bytes)) {
    if (!answered(head, bytes)) return false;
    *moved = true;
  }
  queue_kick(&job.queue);
  return true;
}

// Waits until all that was offered, and what follows from it, is answered.
static bool finish(void) {
  uint64_t patience = option_number("timeout", 30, NULL) * NS_PER_SECOND;
  uint64_t alive = now_ns(), looked = alive;
  queue_kick(&job.queue);
  while (job.busy) {
    bool moved;
    if (!exchange(&moved)) return false;
    uint64_t now = now_ns();
    if (moved) {
      alive = looked = now;
    } else if (now - looked > NS_PER_SECOND) {  // a register access leaves the guest: seldom
      if (virtio_needs_reset(job.device.window)) return fail("the device needs a reset");
      if (now - alive > patience) return fail("no answer");
      looked = now;
    }
    __asm__ volatile("pause");
  }
  return true;
}

// Goes over the disk from its start to `end` once.
static bool pass(uint32_t type, uint64_t end, bool compares) {
  job.type = type;
  job.next = 0;
  job.end = end;
  job.compares = compares;
  for (uint32_t i = 0; i < job.depth; i++) offer_next(i);
  return finish();
}

static bool flush(void) {
  job.type = VIRTIO_BLK_T_FLUSH;
  job.compares = false;
  offer(0, 0, 0);
  return finish();
}

static bool start_device(uint64_t window) {
  uint64_t features = VIRTIO_F_EVENT_IDX | VIRTIO_BLK_F_FLUSH;
  if (!virtio_negotiate(&job.device, window, features)) return fail("features refused");
  if (!virtio_queue(&job.device, &job.queue, 0, 256)) return fail("no queue");
  uint32_t depth_max = job.queue.size / DESCRIPTORS;
  if (job.depth == 0 || job.depth > depth_max || job.depth > DEPTH_MAX) {
    return fail("depth out of range");
  }
  if (job.request == 0 || job.request % SECTOR_BYTES) return fail("request out of range");
  for (uint32_t i = 0; i < job.depth; i++) {
    job.slots[i].header = allocate(sizeof(struct header) + 1);
    job.slots[i].status = (uint8_t *)(job.slots[i].header + 1);
    job.slots[i].data = allocate(job.request);
  }
  const struct pci_function *pci = pci_function_at(window);
  uint64_t config = pci ? pci->config : window + MMIO_CONFIG;
  uint64_t low = mmio_read(config), high = mmio_read(config + 4);  // of the capacity (§5.2.4)
  job.capacity = (high << 32 | low) * SECTOR_BYTES;
  virtio_driver_ok(&job.device);
  print("blk%u: at 0x%x, %u bytes, queue of %u\n", (uint64_t)job.number, window, job.capacity,
        (uint64_t)job.queue.size);
  return true;
}

static bool verify(uint64_t bytes) {
  uint64_t rounds = option_number("rounds", 1, NULL), seed = option_number("seed", 1, NULL);
  bool only_checks = option_is("check", NULL);
  for (uint64_t round = 0; round < rounds; round++) {
    job.seed = seed + round;
    if (!only_checks && (!pass(VIRTIO_BLK_T_OUT, bytes, false) || !flush())) return false;
    if (!only_checks) print("blk%u: flushed round %u\n", (uint64_t)job.number, job.seed);
    if (!pass(VIRTIO_BLK_T_IN, bytes, true)) return false;
  }
  print("blk%u: %u bytes in %u requests: as they were written\n", (uint64_t)job.number, job.moved,
        job.answered);
  return true;
}

static bool measure(uint64_t bytes) {
  uint64_t start = now_ns();
  job.deadline = start + option_number("seconds", 2, NULL) * NS_PER_SECOND;
  bool writes = option_is("write", NULL);
  if (bytes < job.request) return fail("request larger than the disk");
  if (!pass(writes ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, bytes, false)) return false;
  uint64_t ns = now_ns() - start;
  print("blk%u: bench %s%s depth %u request %u: %u bytes in %u ns, %u kB/s, %u requests/s, "
        "p50 %u ns, p99 %u ns\n",
        (uint64_t)job.number, job.random ? "random " : "", writes ? "write" : "read",
        (uint64_t)job.depth, (uint64_t)job.request, job.moved, ns, job.moved * 1000000 / (ns + 1),
        job.answered * NS_PER_SECOND / (ns + 1), histogram_percentile(&job.latency, 50),
        histogram_percentile(&job.latency, 99));
  return true;
}

static bool try_device(uint64_t window) {
  if (!start_device(window)) return false;
  uint64_t wanted = option_number("bytes", job.bench ? job.capacity : 1048576, NULL);
  uint64_t bytes = wanted < job.capacity ? wanted - wanted % SECTOR_BYTES : job.capacity;
  bool fine = job.bench ? measure(bytes) : verify(bytes);
  virtio_reset(window);
  return fine;
}

static void found(uint64_t window, uint32_t number) {
  memset(&job, 0, sizeof job);
  job.number = number;
  job.bench = option_is("bench", NULL);
  job.random = option_is("random", NULL);
  job.state = 88172645463325252ull;
  job.depth = (uint32_t)option_number("depth", 1, NULL);
  job.request = (uint32_t)option_number("request", 4096, NULL);
  if (try_device(window)) {
    passed++;
  } else {
    failed++;
  }
}

void main(void) {
  platform_start();
  print("disk guest, entered by %s: %s\n", entry_name(), command_line());
  if (!clock_is_real()) print("guest: no kvm-clock, times are TSC ticks\n");
  if (virtio_each(VIRTIO_ID_BLOCK, found) == 0) print("guest: no disk found\n");
  bool fine = passed && !failed;
  print("disk guest: %u passed, %u failed: %s\n", (uint64_t)passed, (uint64_t)failed,
        fine ? "PASS" : "FAIL");
  leave(fine ? 0 : 1);
}
