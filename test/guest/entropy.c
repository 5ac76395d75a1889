// A polling virtio-rng driver (virtio v1.2 §5.4): reads entropy from every rng device, looks
// whether it could be random, or, with `bench`, measures how fast it comes.
//
//   bytes=65536 depth=1 request=4096 segments=1      what is read, in which pieces
//   event_idx=1 indirect=1                           features to accept where they are offered
//   bench seconds=2 | bench count=10000              measure instead
//   timeout=30                                       seconds without any answer before giving up
//   heap=0x100000000                                 where rings and buffers are, up to 8 GiB
//   mmio=BASE,STEP,COUNT                             where the virtio-mmio windows are
//   exit=poweroff|debug|reset|triplefault|exception|hang

#include "guest.h"

#define NS_PER_SECOND 1000000000ull
#define DEPTH_MAX 256
#define CANARY 0xb5
#define CANARY_BYTES 64  // behind each buffer: a device that writes too much is caught
#define FIRST_BYTES 16

struct slot {
  uint8_t *buffer;
  struct virtq_desc *table;  // the indirect table, where that is negotiated
  uint32_t asked;            // bytes of the chain in flight; 0: none
  uint64_t since;
};

static struct job {
  struct device device;
  struct queue queue;
  struct slot slots[DEPTH_MAX];
  uint32_t number, depth, request, segments;
  bool bench, indirect;
  uint64_t bytes, count, end;                           // goals; 0: none
  uint64_t received, outstanding, offered, answered;    // so far
  uint64_t values[256];
  uint8_t first[FIRST_BYTES];
  struct histogram latency;
} job;

static uint32_t passed, failed;

static bool fail(const char *what) {
  print("rng%u: %s\n", (uint64_t)job.number, what);
  return false;
}

static void describe(struct virtq_desc *chain, uint32_t first, const struct slot *slot) {
  uint32_t segments = job.segments < slot->asked ? job.segments : slot->asked;
  uint32_t each = slot->asked / segments;
  for (uint32_t i = 0; i < segments; i++) {
    bool last = i == segments - 1;
    chain[i].addr = (uint64_t)slot->buffer + i * each;
    chain[i].len = last ? slot->asked - i * each : each;
    chain[i].flags = last ? VIRTQ_DESC_F_WRITE : VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_NEXT;
    chain[i].next = last ? 0 : (uint16_t)(first + i + 1);
  }
}

static void offer(uint32_t index, uint32_t bytes) {
  struct slot *slot = &job.slots[index];
  slot->asked = bytes;
  uint32_t head = index;
  if (job.indirect) {
    uint32_t count = job.segments < bytes ? job.segments : bytes;
    describe(slot->table, 0, slot);
    job.queue.desc[head].addr = (uint64_t)slot->table;
    job.queue.desc[head].len = count * sizeof(struct virtq_desc);
    job.queue.desc[head].flags = VIRTQ_DESC_F_INDIRECT;
  } else {
    head = index * job.segments;
    describe(job.queue.desc + head, head, slot);
  }
  slot->since = now_ns();
  job.outstanding += bytes;
  job.offered++;
  queue_offer(&job.queue, (uint16_t)head);
}

/** Bytes that the next chain should ask for; 0 when enough are under way. */
static uint32_t wanted(void) {
  if (job.bench) {
    if (job.count) return job.offered < job.count ? job.request : 0;
    return now_ns() < job.end ? job.request : 0;
  }
  uint64_t rest = job.bytes - job.received - job.outstanding;
  return rest < job.request ? (uint32_t)rest : job.request;
}

static bool answered(uint32_t head, uint32_t bytes) {
  uint32_t index = job.indirect ? head : head / job.segments;
  if (index >= job.depth || (!job.indirect && head % job.segments)) return fail("unknown used id");
  struct slot *slot = &job.slots[index];
  if (slot->asked == 0) return fail("a used id that is not in flight");
  if (bytes == 0) return fail("a used entry of 0 bytes");
  if (bytes > slot->asked) return fail("more bytes used than were offered");
  if (job.bench) {
    histogram_add(&job.latency, now_ns() - slot->since);
  } else {
    for (uint32_t i = 0; i < bytes; i++) {
      if (job.received + i < FIRST_BYTES) job.first[job.received + i] = slot->buffer[i];
      job.values[slot->buffer[i]]++;
    }
  }
  job.outstanding -= slot->asked;
  job.received += bytes;
  job.answered++;
  slot->asked = 0;
  uint32_t next = wanted();
  if (next) offer(index, next);
  return true;
}

// One pass: everything that was used is taken and replaced, then one kick for all.
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

static bool transfer(void) {
  uint64_t patience = option_number("timeout", 30, NULL) * NS_PER_SECOND;
  for (uint32_t i = 0; i < job.depth; i++) {
    uint32_t bytes = wanted();
    if (bytes) offer(i, bytes);
  }
  queue_kick(&job.queue);
  uint64_t alive = now_ns(), looked = alive;
  while (job.outstanding) {
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

static bool canaries_live(void) {
  for (uint32_t i = 0; i < job.depth; i++) {
    const uint8_t *canary = job.slots[i].buffer + job.request;
    for (uint32_t k = 0; k < CANARY_BYTES; k++) {
      if (canary[k] != CANARY) return fail("bytes written behind a buffer");
    }
  }
  return true;
}

static void prepare_slots(void) {
  for (uint32_t i = 0; i < job.depth; i++) {
    struct slot *slot = &job.slots[i];
    slot->asked = 0;
    slot->buffer = allocate(job.request + CANARY_BYTES);
    memset(slot->buffer + job.request, CANARY, CANARY_BYTES);
    if (job.indirect) slot->table = allocate(job.segments * sizeof(struct virtq_desc));
  }
}

static void print_features(void) {
  print("rng%u: at 0x%x, queue of %u, VERSION_1%s%s\n", (uint64_t)job.number, job.device.window,
        (uint64_t)job.queue.size,
        job.device.features & VIRTIO_F_INDIRECT_DESC ? " INDIRECT_DESC" : "",
        job.device.features & VIRTIO_F_EVENT_IDX ? " EVENT_IDX" : "");
}

static bool start_device(uint64_t window) {
  uint64_t features = 0;
  if (option_number("event_idx", 1, NULL)) features |= VIRTIO_F_EVENT_IDX;
  if (option_number("indirect", 1, NULL)) features |= VIRTIO_F_INDIRECT_DESC;
  if (!virtio_negotiate(&job.device, window, features)) return fail("features refused");
  job.indirect = job.device.features & VIRTIO_F_INDIRECT_DESC;
  if (!virtio_queue(&job.device, &job.queue, 0, DEPTH_MAX)) return fail("no queue");
  if (job.segments == 0 || job.segments > job.queue.size) return fail("segments out of range");
  uint32_t depth_max = job.indirect ? job.queue.size : job.queue.size / job.segments;
  if (job.depth == 0 || job.depth > depth_max) return fail("depth out of range");
  if (job.request == 0) return fail("request out of range");
  prepare_slots();
  virtio_driver_ok(&job.device);
  print_features();
  return true;
}

static bool bits_look_random(void) {
  uint64_t ones = 0, bits = job.received * 8;
  for (uint32_t value = 0; value < 256; value++) {
    for (uint32_t rest = value; rest; rest &= rest - 1) ones += job.values[value];
  }
  // Within 6 sigma of bits/2; sigma² is bits/4, so (2·ones - bits)² ≤ 36·bits.
  int64_t off = (int64_t)(2 * ones) - (int64_t)bits;
  bool fine = (uint64_t)(off * off) <= 36 * bits;
  print("%u of %u bits set%s", ones, bits, fine ? "" : " (!)");
  return fine;
}

// Chi-square over the 256 byte values: 255 on average, sigma 22.6. 8 sigma to either side: a
// counter has 0 and a text has thousands. With fewer than 5 of each value expected it says nothing.
static bool bytes_look_random(void) {
  if (job.received < 5 * 256) return true;
  uint64_t sum = 0;
  for (uint32_t value = 0; value < 256; value++) {
    int64_t off = (int64_t)(256 * job.values[value]) - (int64_t)job.received;
    sum += (uint64_t)(off * off);
  }
  uint64_t chi_square = sum / (256 * job.received);
  bool fine = chi_square >= 75 && chi_square <= 435;
  print(", chi-square %u%s", chi_square, fine ? "" : " (!)");
  return fine;
}

static bool report_sample(void) {
  print("rng%u: %u bytes in %u requests, first ", (uint64_t)job.number, job.received, job.answered);
  print_hex(job.first, job.received < FIRST_BYTES ? job.received : FIRST_BYTES);
  print("\nrng%u: ", (uint64_t)job.number);
  bool bits = bits_look_random();
  bool bytes = bytes_look_random();
  print(": %s\n", bits && bytes ? "looks random" : "NOT RANDOM");
  return bits && bytes;
}

static bool report_speed(uint64_t ns) {
  uint64_t kb_per_second = job.received * 1000000 / (ns + 1);
  uint64_t per_second = job.answered * NS_PER_SECOND / (ns + 1);
  print("rng%u: bench depth %u request %u segments %u: %u bytes in %u ns, %u kB/s, %u requests/s, "
        "p50 %u ns, p99 %u ns\n",
        (uint64_t)job.number, (uint64_t)job.depth, (uint64_t)job.request, (uint64_t)job.segments,
        job.received, ns, kb_per_second, per_second, histogram_percentile(&job.latency, 50),
        histogram_percentile(&job.latency, 99));
  return true;
}

static bool try_device(uint64_t window) {
  if (!start_device(window)) return false;
  uint64_t start = now_ns();
  job.end = start + option_number("seconds", 2, NULL) * NS_PER_SECOND;
  bool fine = transfer();
  uint64_t ns = now_ns() - start;
  virtio_reset(window);
  if (!fine || !canaries_live()) return false;
  return job.bench ? report_speed(ns) : report_sample();
}

static void found(uint64_t window, uint32_t number) {
  memset(&job, 0, sizeof job);
  job.number = number;
  job.bench = option_is("bench", NULL);
  job.bytes = option_number("bytes", 65536, NULL);
  job.count = option_number("count", 0, NULL);
  job.depth = (uint32_t)option_number("depth", 1, NULL);
  job.request = (uint32_t)option_number("request", 4096, NULL);
  job.segments = (uint32_t)option_number("segments", 1, NULL);
  if (try_device(window)) {
    passed++;
  } else {
    failed++;
  }
}

void main(void) {
  platform_start();
  print("entropy guest, entered by %s: %s\n", entry_name(), command_line());
  if (!clock_is_real()) print("guest: no kvm-clock, times are TSC ticks\n");
  if (virtio_each(VIRTIO_ID_RNG, found) == 0) print("guest: no rng device found\n");
  bool fine = passed && !failed;
  print("entropy guest: %u passed, %u failed: %s\n", (uint64_t)passed, (uint64_t)failed,
        fine ? "PASS" : "FAIL");
  leave(fine ? 0 : 1);
}
