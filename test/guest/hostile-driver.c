// The hostile session, and the driver that keeps the rules.

#include "hostile.h"

#define SIZE_MAX_RNG 64
#define SITE_BYTES (16 * KIB)  // rings of one session: descriptors, available and used ring
#define SITE_COUNT 16
#define SITE_AVAIL (4 * KIB)
#define SITE_USED (8 * KIB)
#define TABLES (RINGS + 512 * KIB)
#define TABLE_BYTES (16 * KIB)
#define ANSWER_NS_MAX 60000000000ull  // a hang, however slow the machine
#define SMALL_BYTES_MAX 2048
#define SMALL_OFFSET_MAX 1024

struct counts counts;
bool counting;
struct session session;

uint64_t access_read(uint64_t address, uint32_t width) {
  uint64_t value = 0;
  counts.registers += counting;
  switch (width) {
    case 1:
      __asm__ volatile("movb (%1), %b0" : "+r"(value) : "r"(address) : "memory");
      break;
    case 2:
      __asm__ volatile("movw (%1), %w0" : "+r"(value) : "r"(address) : "memory");
      break;
    case 4:
      value = mmio_read(address);
      break;
    default:
      __asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
  }
  return value;
}

void access_write(uint64_t address, uint32_t width, uint64_t value) {
  counts.registers += counting;
  switch (width) {
    case 1:
      __asm__ volatile("movb %b0, (%1)" : : "r"(value), "r"(address) : "memory");
      break;
    case 2:
      __asm__ volatile("movw %w0, (%1)" : : "r"(value), "r"(address) : "memory");
      break;
    case 4:
      mmio_write(address, (uint32_t)value);
      break;
    default:
      __asm__ volatile("movq %0, (%1)" : : "r"(value), "r"(address) : "memory");
  }
}

uint32_t reg_read(uint32_t offset) {
  return (uint32_t)access_read(session.window + offset, 4);
}

void reg_write(uint32_t offset, uint32_t value) {
  access_write(session.window + offset, 4, value);
}

void session_begin(void) {
  reg_write(Status, 0);
  reg_write(Status, ACKNOWLEDGE | DRIVER);
  session.indirect = !one_in(8);
  uint64_t features = VIRTIO_F_VERSION_1 | (one_in(2) ? VIRTIO_F_EVENT_IDX : 0) |
                      (session.indirect ? VIRTIO_F_INDIRECT_DESC : 0);
  reg_write(DriverFeatures, (uint32_t)features);
  reg_write(DriverFeaturesSel, 1);
  reg_write(DriverFeatures, (uint32_t)(features >> 32));
  reg_write(Status, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  session.running = false;
}

void session_rings(void) {
  uint64_t site = RINGS + below(SITE_COUNT) * SITE_BYTES;
  session.size = one_in(2) ? SIZE_MAX_RNG : 1u << below(7);
  session.desc = (struct virtq_desc *)site;
  session.avail = (struct virtq_avail *)(site + SITE_AVAIL);
  session.used = (struct virtq_used *)(site + SITE_USED);
  session.available = session.seen = 0;
  memset((void *)session.avail, 0, VIRTQ_AVAIL_BYTES(SIZE_MAX_RNG));
  memset((void *)session.used, 0, VIRTQ_USED_BYTES(SIZE_MAX_RNG));
  session.avail->flags = VIRTQ_AVAIL_F_NO_INTERRUPT;
  reg_write(QueueNum, session.size);
  // The upper halves are 0 after a reset.
  reg_write(QueueDescLow, (uint32_t)site);
  reg_write(QueueDriverLow, (uint32_t)(site + SITE_AVAIL));
  reg_write(QueueDeviceLow, (uint32_t)(site + SITE_USED));
}

void session_start(void) {
  session_begin();
  session_rings();
  reg_write(QueueReady, 1);
  reg_write(Status, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  session.running = true;
}

// Each field is written at once where the table is aligned, and bytes in any order where it is not.
void put_desc(struct virtq_desc *table, uint32_t index, struct virtq_desc desc) {
  volatile struct virtq_desc *to = &table[index];
  to->addr = desc.addr;
  to->len = desc.len;
  to->flags = desc.flags;
  to->next = desc.next;
  counts.mutations += counting;
}

void set_available(uint16_t index) {
  __asm__ volatile("" : : : "memory");
  session.avail->idx = session.available = index;
  counts.mutations += counting;
}

void offer(uint16_t head) {
  session.avail->ring[session.available & (session.size - 1)] = head;
  counts.mutations += counting;
  set_available(session.available + 1);
}

void kick(void) {
  __asm__ volatile("" : : : "memory");
  mmio_write(session.window + QueueNotify, 0);
  counts.kicks += counting;
}

void spin(uint32_t rounds) {
  for (uint32_t i = 0; i < rounds; i++) __asm__ volatile("pause");
}

// Any mixture of the bytes of two such addresses and lengths is inside a slot, too.
struct virtq_desc writable_desc(void) {
  uint64_t slot = SLOTS + below(SLOT_COUNT) * SLOT_BYTES + SLOT_INSIDE;
  return (struct virtq_desc){
      .addr = slot + below(SMALL_OFFSET_MAX),
      .len = 1 + below(SMALL_BYTES_MAX),
      .flags = VIRTQ_DESC_F_WRITE,
  };
}

struct virtq_desc readable_desc(void) {
  return (struct virtq_desc){
      .addr = READABLE + below((uint32_t)READABLE_BYTES - 2 * MIB),
      .len = below(4096),
  };
}

uint16_t nth_writable(uint32_t n) {
  return (uint16_t)(n + n / 3);  // every fourth is for reading
}

uint32_t writable_count(void) {
  return session.size - session.size / 4;
}

uint16_t any_readable(void) {
  return (uint16_t)(below(session.size / 4) * 4 + 3);
}

struct virtq_desc *indirect_table(enum table_kind kind, uint32_t number) {
  uint64_t at = TABLES + (kind * 8ull + number % 8) * TABLE_BYTES;
  if (kind == ODD_TABLE) at += number % 8 * 2 + 1;
  return (struct virtq_desc *)at;
}

struct virtq_desc indirect_desc(const struct virtq_desc *table, uint32_t count) {
  return (struct virtq_desc){
      .addr = (uint64_t)table,
      .len = count * (uint32_t)sizeof(struct virtq_desc),
      .flags = VIRTQ_DESC_F_INDIRECT,
  };
}

void driver_start(struct driver *driver, uint64_t window, uint32_t number) {
  struct stage *stage = &driver->stage;
  stage_open(stage, number);
  driver->pending = 0;
  uint64_t features = VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
  if (!virtio_negotiate(&driver->device, window, features)) fail("features refused", 0, 0);
  uint32_t size = virtio_queue_size(&driver->device, 0, 16u << below(3));
  if (size < REQUESTS_MAX * SEGMENTS_MAX) fail("a queue too small", size, 16);
  struct rings rings = {.size = size};
  rings.desc = stage_allocate(stage, size * sizeof(struct virtq_desc), 16);
  rings.avail = stage_allocate(stage, VIRTQ_AVAIL_BYTES(size), 2);
  rings.used = stage_allocate(stage, VIRTQ_USED_BYTES(size), 4);
  for (uint32_t i = 0; i < stage->count; i++) {
    memset((void *)stage->ranges[i].start, 0, stage->ranges[i].bytes);
  }
  if (!virtio_queue_at(&driver->device, &driver->queue, &rings)) fail("queue refused", 0, 0);
  virtio_driver_ok(&driver->device);
}

void driver_ask(struct driver *driver) {
  driver->pending = 1 + below(REQUESTS_MAX);
  for (uint32_t i = 0; i < driver->pending; i++) {
    struct request *request = &driver->requests[i];
    request->segments = 1 + below(SEGMENTS_MAX);
    request->bytes = 0;
    for (uint32_t k = 0; k < request->segments; k++) {
      uint32_t bytes = 16 + below(2000);
      bool last = k == request->segments - 1;
      request->chain[k] = (struct virtq_desc){
          .addr = (uint64_t)stage_allocate(&driver->stage, bytes, 1),
          .len = bytes,
          .flags = last ? VIRTQ_DESC_F_WRITE : VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_NEXT,
          .next = last ? 0 : (uint16_t)(i * SEGMENTS_MAX + k + 1),
      };
      request->bytes += bytes;
      driver->queue.desc[i * SEGMENTS_MAX + k] = request->chain[k];
    }
    queue_offer(&driver->queue, (uint16_t)(i * SEGMENTS_MAX));
  }
  queue_kick(&driver->queue);
}

// The stage still has its pattern where nothing was written.
static void check_request(const struct driver *driver, uint32_t number) {
  const struct request *request = &driver->requests[number];
  const struct virtq_desc *chain = &driver->queue.desc[number * SEGMENTS_MAX];
  if (memcmp(chain, request->chain, request->segments * sizeof *chain)) {
    fail("a descriptor was written", (uint64_t)chain, 0);
  }
  for (uint32_t k = 0; k < request->segments; k++) {
    const uint8_t *buffer = (const uint8_t *)request->chain[k].addr;
    memory_check_random(buffer, request->chain[k].len);
  }
}

void driver_expect(struct driver *driver) {
  uint32_t open = (1u << driver->pending) - 1;
  uint64_t end = now_ns() + ANSWER_NS_MAX;
  while (open) {
    uint32_t head, bytes;
    if (queue_take(&driver->queue, &head, &bytes)) {
      uint32_t number = head / SEGMENTS_MAX;
      if (head % SEGMENTS_MAX || number >= driver->pending || !(open & 1u << number)) {
        fail("a used entry for what is not in flight", head, 0);
      }
      if (bytes != driver->requests[number].bytes) {
        fail("a wrong used length", bytes, driver->requests[number].bytes);
      }
      check_request(driver, number);
      open &= ~(1u << number);
      driver->answered++;
    } else if (now_ns() > end) {
      uint32_t status = mmio_read(driver->device.window + Status);
      fail("a proper request was not answered: status", status, 15);
    }
    __asm__ volatile("pause");
  }
  if (driver->queue.used->idx != driver->queue.seen) fail("more used entries than requests", 0, 0);
  if (driver->queue.avail->idx != driver->queue.published) fail("avail->idx was written", 0, 0);
  driver->pending = 0;
  stage_check(&driver->stage, 3);
}
