// A modern virtio-mmio device (virtio v1.2 §4.2) with split queues (§2.7), polled.

#include "guest.h"

#define MAGIC 0x74726976  // "virt"

// Bulkhead's windows; QEMU microvm has 24 at 0xfeb00000, 512 bytes apart, all with the magic value.
#define WINDOW_BASE 0xd0000000
#define WINDOW_STEP 0x1000
#define WINDOW_COUNT 32

static uint64_t next_number(const char **rest, uint64_t otherwise) {
  if (!*rest || **rest != ',') return otherwise;
  uint64_t value = 0;
  const char *at = *rest + 1;
  for (; *at >= '0' && *at <= '9'; at++) value = value * 10 + (uint64_t)(*at - '0');
  *rest = at;
  return value;
}

uint32_t virtio_each(uint32_t id, void (*found)(uint64_t window, uint32_t number)) {
  const char *rest = NULL;
  uint64_t window = option_number("mmio", WINDOW_BASE, &rest);
  uint64_t step = next_number(&rest, WINDOW_STEP);
  uint64_t count = next_number(&rest, WINDOW_COUNT);
  uint32_t number = 0;
  for (uint64_t i = 0; i < count; i++, window += step) {
    if (mmio_read(window + MagicValue) != MAGIC) break;
    if (mmio_read(window + DeviceID) == id) found(window, number++);
  }
  return number;
}

static void add_status(uint64_t window, uint32_t bits) {
  mmio_write(window + Status, mmio_read(window + Status) | bits);
}

void virtio_reset(uint64_t window) {
  mmio_write(window + Status, 0);
  while (mmio_read(window + Status) != 0) {  // (§4.2.3.1.1)
  }
}

bool virtio_needs_reset(uint64_t window) {
  return mmio_read(window + Status) & DEVICE_NEEDS_RESET;
}

static uint64_t device_features(uint64_t window) {
  mmio_write(window + DeviceFeaturesSel, 1);
  uint64_t high = mmio_read(window + DeviceFeatures);
  mmio_write(window + DeviceFeaturesSel, 0);
  return high << 32 | mmio_read(window + DeviceFeatures);
}

bool virtio_negotiate(struct device *device, uint64_t window, uint64_t wanted) {
  device->window = window;
  if (mmio_read(window + Version) != 2) return false;
  virtio_reset(window);
  add_status(window, ACKNOWLEDGE);
  add_status(window, DRIVER);
  uint64_t offered = device_features(window);
  device->features = offered & (wanted | VIRTIO_F_VERSION_1);
  mmio_write(window + DriverFeaturesSel, 0);
  mmio_write(window + DriverFeatures, (uint32_t)device->features);
  mmio_write(window + DriverFeaturesSel, 1);
  mmio_write(window + DriverFeatures, (uint32_t)(device->features >> 32));
  add_status(window, FEATURES_OK);
  bool accepted = mmio_read(window + Status) & FEATURES_OK;
  if (accepted && device->features & VIRTIO_F_VERSION_1) return true;
  add_status(window, FAILED);
  return false;
}

static void write_address(uint64_t window, uint32_t low, const volatile void *address) {
  mmio_write(window + low, (uint32_t)(uint64_t)address);
  mmio_write(window + low + 4, (uint32_t)((uint64_t)address >> 32));
}

uint32_t virtio_queue_size(struct device *device, uint32_t index, uint32_t size_max) {
  mmio_write(device->window + QueueSel, index);
  if (mmio_read(device->window + QueueReady) != 0) return 0;
  uint32_t size = mmio_read(device->window + QueueNumMax);
  while (size > size_max && size > 1) size /= 2;
  return size;
}

bool virtio_queue_at(struct device *device, struct queue *queue, const struct rings *rings) {
  uint64_t window = device->window;
  uint32_t size = rings->size;
  memset(queue, 0, sizeof *queue);
  queue->window = window;
  queue->index = rings->index;
  queue->size = size;
  queue->event_idx = device->features & VIRTIO_F_EVENT_IDX;
  queue->desc = rings->desc;
  queue->avail = rings->avail;
  queue->used = rings->used;
  queue->avail->flags = queue->event_idx ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT;
  queue->avail->ring[size] = 0xffff;  // used_event: behind us, so no interrupt (§2.7.7.1)
  mmio_write(window + QueueNum, size);
  write_address(window, QueueDescLow, queue->desc);
  write_address(window, QueueDriverLow, queue->avail);
  write_address(window, QueueDeviceLow, queue->used);
  mmio_write(window + QueueReady, 1);
  return mmio_read(window + QueueReady) == 1;
}

bool virtio_queue(struct device *device, struct queue *queue, uint32_t index, uint32_t size_max) {
  struct rings rings = {.index = index, .size = virtio_queue_size(device, index, size_max)};
  if (rings.size == 0) return false;
  rings.desc = allocate(rings.size * sizeof(struct virtq_desc));
  rings.avail = allocate(VIRTQ_AVAIL_BYTES(rings.size));
  rings.used = allocate(VIRTQ_USED_BYTES(rings.size));
  return virtio_queue_at(device, queue, &rings);
}

void virtio_driver_ok(struct device *device) {
  add_status(device->window, DRIVER_OK);
}

void queue_offer(struct queue *queue, uint16_t head) {
  queue->avail->ring[queue->available++ & (queue->size - 1)] = head;
}

// With EVENT_IDX the device says at which index it wants to be notified (§2.7.10).
static bool wants_kick(struct queue *queue, uint16_t before) {
  if (!queue->event_idx) return !(queue->used->flags & VIRTQ_USED_F_NO_NOTIFY);
  uint16_t avail_event = *(volatile uint16_t *)&queue->used->ring[queue->size];
  uint16_t after = queue->published;
  return (uint16_t)(after - avail_event - 1) < (uint16_t)(after - before);
}

void queue_kick(struct queue *queue) {
  uint16_t before = queue->published;
  if (queue->available == before) return;
  __asm__ volatile("" : : : "memory");  // x86 keeps stores in order: entries before the index
  queue->avail->idx = queue->published = queue->available;
  __asm__ volatile("mfence" : : : "memory");  // the index before the device's wish (§2.7.13.3.1)
  if (wants_kick(queue, before)) mmio_write(queue->window + QueueNotify, queue->index);
}

bool queue_take(struct queue *queue, uint32_t *id, uint32_t *bytes) {
  if (queue->used->idx == queue->seen) return false;
  __asm__ volatile("" : : : "memory");
  uint32_t slot = queue->seen++ & (queue->size - 1);
  *id = queue->used->ring[slot].id;
  *bytes = queue->used->ring[slot].len;
  if (queue->event_idx) queue->avail->ring[queue->size] = queue->seen - 1;
  return true;
}
