// A modern virtio device over mmio (virtio v1.2 §4.2) or PCI (§4.1), split queues (§2.7), polled.

#include "guest.h"

#define MAGIC 0x74726976  // "virt"

// Bulkhead's windows; QEMU microvm has 24 at 0xfeb00000, 512 bytes apart, all with the magic value.
#define WINDOW_BASE 0xd0000000
#define WINDOW_STEP 0x1000
#define WINDOW_COUNT 32

// Fields of virtio_pci_common_cfg (§4.1.4.3), in the order of the registers below.
#define PCI_DEVICE_FEATURE_SELECT 0
#define PCI_DEVICE_FEATURE 4
#define PCI_DRIVER_FEATURE_SELECT 8
#define PCI_DRIVER_FEATURE 12
#define PCI_DEVICE_STATUS 20
#define PCI_QUEUE_SELECT 22
#define PCI_QUEUE_SIZE 24
#define PCI_QUEUE_ENABLE 28
#define PCI_QUEUE_NOTIFY_OFF 30
#define PCI_QUEUE_DESC 32
#define PCI_QUEUE_DRIVER 40
#define PCI_QUEUE_DEVICE 48

static uint64_t next_number(const char **rest, uint64_t otherwise) {
  if (!*rest || **rest != ',') return otherwise;
  uint64_t value = 0;
  const char *at = *rest + 1;
  for (; *at >= '0' && *at <= '9'; at++) value = value * 10 + (uint64_t)(*at - '0');
  *rest = at;
  return value;
}

uint32_t virtio_each(uint32_t id, void (*found)(uint64_t window, uint32_t number)) {
  if (pci_exists()) return pci_each(id, found);
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

static bool is_pci(uint64_t window) {
  return pci_function_at(window) != NULL;
}

static uint32_t get_status(uint64_t window) {
  return is_pci(window) ? mmio_read8(window + PCI_DEVICE_STATUS) : mmio_read(window + Status);
}

static void set_status(uint64_t window, uint32_t status) {
  if (is_pci(window)) mmio_write8(window + PCI_DEVICE_STATUS, (uint8_t)status);
  else mmio_write(window + Status, status);
}

static void add_status(uint64_t window, uint32_t bits) {
  set_status(window, get_status(window) | bits);
}

void virtio_reset(uint64_t window) {
  set_status(window, 0);
  while (get_status(window) != 0) {  // (§4.2.3.1.1)
  }
}

bool virtio_needs_reset(uint64_t window) {
  return get_status(window) & DEVICE_NEEDS_RESET;
}

static uint64_t device_features(uint64_t window) {
  uint64_t select = window + (is_pci(window) ? PCI_DEVICE_FEATURE_SELECT : DeviceFeaturesSel);
  uint64_t features = window + (is_pci(window) ? PCI_DEVICE_FEATURE : DeviceFeatures);
  mmio_write(select, 1);
  uint64_t high = mmio_read(features);
  mmio_write(select, 0);
  return high << 32 | mmio_read(features);
}

static void set_driver_features(uint64_t window, uint64_t accepted) {
  uint64_t select = window + (is_pci(window) ? PCI_DRIVER_FEATURE_SELECT : DriverFeaturesSel);
  uint64_t features = window + (is_pci(window) ? PCI_DRIVER_FEATURE : DriverFeatures);
  mmio_write(select, 0);
  mmio_write(features, (uint32_t)accepted);
  mmio_write(select, 1);
  mmio_write(features, (uint32_t)(accepted >> 32));
}

bool virtio_negotiate(struct device *device, uint64_t window, uint64_t wanted) {
  device->window = window;
  if (!is_pci(window) && mmio_read(window + Version) != 2) return false;
  virtio_reset(window);
  add_status(window, ACKNOWLEDGE);
  add_status(window, DRIVER);
  uint64_t offered = device_features(window);
  device->features = offered & (wanted | VIRTIO_F_VERSION_1);
  set_driver_features(window, device->features);
  add_status(window, FEATURES_OK);
  bool accepted = get_status(window) & FEATURES_OK;
  if (accepted && device->features & VIRTIO_F_VERSION_1) return true;
  add_status(window, FAILED);
  return false;
}

static void write_address(uint64_t window, uint32_t low, const volatile void *address) {
  mmio_write(window + low, (uint32_t)(uint64_t)address);
  mmio_write(window + low + 4, (uint32_t)((uint64_t)address >> 32));
}

uint32_t virtio_queue_size(struct device *device, uint32_t index, uint32_t size_max) {
  uint64_t window = device->window;
  uint32_t size;
  if (is_pci(window)) {
    mmio_write16(window + PCI_QUEUE_SELECT, (uint16_t)index);
    if (mmio_read16(window + PCI_QUEUE_ENABLE) != 0) return 0;
    size = mmio_read16(window + PCI_QUEUE_SIZE);
  } else {
    mmio_write(window + QueueSel, index);
    if (mmio_read(window + QueueReady) != 0) return 0;
    size = mmio_read(window + QueueNumMax);
  }
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
  const struct pci_function *pci = pci_function_at(window);
  if (pci) {
    mmio_write16(window + PCI_QUEUE_SIZE, (uint16_t)size);
    queue->notify = pci->notify + mmio_read16(window + PCI_QUEUE_NOTIFY_OFF) * pci->multiplier;
    write_address(window, PCI_QUEUE_DESC, queue->desc);
    write_address(window, PCI_QUEUE_DRIVER, queue->avail);
    write_address(window, PCI_QUEUE_DEVICE, queue->used);
    mmio_write16(window + PCI_QUEUE_ENABLE, 1);
    return mmio_read16(window + PCI_QUEUE_ENABLE) == 1;
  }
  queue->notify = 0;
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
  if (!wants_kick(queue, before)) return;
  if (queue->notify) mmio_write16(queue->notify, (uint16_t)queue->index);
  else mmio_write(queue->window + QueueNotify, queue->index);
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
