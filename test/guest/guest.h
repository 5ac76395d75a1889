// The pieces that the guest programs share. Everything runs at CPL 3 with interrupts off, in one
// identity-mapped address space: a pointer is a guest-physical address.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// text.c: strings, numbers and the console.
size_t strlen(const char *text);
void *memset(void *to, int byte, size_t count);
void *memcpy(void *to, const void *from, size_t count);
int memcmp(const void *a, const void *b, size_t count);
/** %s string, %u decimal, %x hex (both 64-bit), %% itself. */
void print(const char *format, ...);
void print_hex(const uint8_t *bytes, size_t count);

// platform.c: the command line, the clock, and the ways out.
void platform_start(void);
const char *command_line(void);
/** Which way the loader came in: "PVH" or "the 64-bit Linux entry". */
const char *entry_name(void);
/** The number of `name=…` (decimal or 0x…), or `otherwise`; `*rest` points behind the number. */
uint64_t option_number(const char *name, uint64_t otherwise, const char **rest);
/** Whether `name=value`, or the bare word `name` when `value` is NULL, is on the command line. */
bool option_is(const char *name, const char *value);
/** Whether there is a clock: without one `now_ns()` counts TSC ticks. */
bool clock_is_real(void);
uint64_t now_ns(void);
/** A page-aligned, zeroed stretch of RAM, never returned. */
void *allocate(size_t bytes);
/** Leaves as `exit=` says: poweroff, debug (with `status`), reset, triplefault, exception, hang. */
_Noreturn void leave(uint8_t status);

static inline void out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline void out16(uint16_t port, uint16_t value) {
  __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
static inline void out32(uint16_t port, uint32_t value) {
  __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
static inline uint32_t in32(uint16_t port) {
  uint32_t value;
  __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline uint8_t in8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
/** A plain `mov`, which every KVM's instruction decoder knows. */
static inline uint32_t mmio_read(uint64_t address) {
  uint32_t value;
  __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}
static inline void mmio_write(uint64_t address, uint32_t value) {
  __asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}
static inline uint8_t mmio_read8(uint64_t address) {
  uint8_t value;
  __asm__ volatile("movb (%1), %0" : "=q"(value) : "r"(address) : "memory");
  return value;
}
static inline void mmio_write8(uint64_t address, uint8_t value) {
  __asm__ volatile("movb %0, (%1)" : : "q"(value), "r"(address) : "memory");
}
static inline uint16_t mmio_read16(uint64_t address) {
  uint16_t value;
  __asm__ volatile("movw (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}
static inline void mmio_write16(uint64_t address, uint16_t value) {
  __asm__ volatile("movw %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

// histogram.c: how long requests took.
#define HISTOGRAM_SHIFT 5
#define HISTOGRAM_STEPS (1u << HISTOGRAM_SHIFT)
struct histogram {
  uint64_t counts[64 * HISTOGRAM_STEPS];
  uint64_t total;
};
/** Notes one request. */
void histogram_add(struct histogram *histogram, uint64_t ns);
/** Nanoseconds that `percent` of all requests took at most; 0: there were none. */
uint64_t histogram_percentile(const struct histogram *histogram, uint64_t percent);

// pci.c: where the functions of bus 0 have virtio's structures (virtio v1.2 §4.1.4).
struct pci_function {
  uint64_t common;      // virtio_pci_common_cfg, which is what `window` means with PCI
  uint64_t notify;      // of queue 0
  uint64_t config;      // the device's own fields
  uint32_t multiplier;  // bytes from one queue's to the next one's
};
/** Whether there is a PCI host bridge. */
bool pci_exists(void);
/** Like virtio_each(). */
uint32_t pci_each(uint32_t id, void (*found)(uint64_t window, uint32_t number));
/** The function of a window that pci_each() found, or NULL. */
const struct pci_function *pci_function_at(uint64_t window);

// virtio.c: a modern virtio device over mmio (virtio v1.2 §4.2), or over PCI where there is a host
// bridge (§4.1), with split queues (§2.7), polled.
#define VIRTIO_ID_RNG 4
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)

// Register offsets (§4.2.2).
#define MagicValue 0x000
#define Version 0x004
#define DeviceID 0x008
#define DeviceFeatures 0x010
#define DeviceFeaturesSel 0x014
#define DriverFeatures 0x020
#define DriverFeaturesSel 0x024
#define QueueSel 0x030
#define QueueNumMax 0x034
#define QueueNum 0x038
#define QueueReady 0x044
#define QueueNotify 0x050
#define Status 0x070
#define QueueDescLow 0x080
#define QueueDriverLow 0x090
#define QueueDeviceLow 0x0a0

// Bits of Status (§2.1).
#define ACKNOWLEDGE 1
#define DRIVER 2
#define DRIVER_OK 4
#define FEATURES_OK 8
#define DEVICE_NEEDS_RESET 64
#define FAILED 128

struct virtq_desc {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};
#define VIRTQ_DESC_F_NEXT 1
#define VIRTQ_DESC_F_WRITE 2
#define VIRTQ_DESC_F_INDIRECT 4

struct virtq_avail {
  uint16_t flags;
  uint16_t idx;
  uint16_t ring[];
};
#define VIRTQ_AVAIL_F_NO_INTERRUPT 1
#define VIRTQ_AVAIL_BYTES(size) (6 + 2 * (size))  // flags, idx, ring, used_event

struct virtq_used {
  uint16_t flags;
  uint16_t idx;
  struct {
    uint32_t id;
    uint32_t len;
  } ring[];
};
#define VIRTQ_USED_F_NO_NOTIFY 1
#define VIRTQ_USED_BYTES(size) (6 + 8 * (size))  // flags, idx, ring, avail_event

struct queue {
  uint64_t window;
  uint64_t notify;
  uint32_t index;
  uint32_t size;
  bool event_idx;
  uint16_t available;  // entries made available, published or not
  uint16_t published;  // avail->idx as the device sees it
  uint16_t seen;       // used entries taken
  struct virtq_desc *desc;
  volatile struct virtq_avail *avail;
  volatile struct virtq_used *used;
};

struct device {
  uint64_t window;
  uint32_t id;
  uint64_t features;
};

/** Calls `found` for each device with virtio id `id`, in window order; returns how many. */
uint32_t virtio_each(uint32_t id, void (*found)(uint64_t window, uint32_t number));
/** Reset, ACKNOWLEDGE, DRIVER and features up to FEATURES_OK (§3.1.1); false if it refuses. */
bool virtio_negotiate(struct device *device, uint64_t window, uint64_t wanted);
/** Selects queue `index`, which must not be ready: its size, at most `size_max`; 0: none. */
uint32_t virtio_queue_size(struct device *device, uint32_t index, uint32_t size_max);
/** Where a queue of `size` entries is put; zeroed memory. */
struct rings {
  uint32_t index, size;
  struct virtq_desc *desc;
  volatile struct virtq_avail *avail;
  volatile struct virtq_used *used;
};
/** Sets up the queue that is selected. */
bool virtio_queue_at(struct device *device, struct queue *queue, const struct rings *rings);
/** Sets up queue `index` with at most `size_max` entries; false if there is none. */
bool virtio_queue(struct device *device, struct queue *queue, uint32_t index, uint32_t size_max);
void virtio_driver_ok(struct device *device);
void virtio_reset(uint64_t window);
bool virtio_needs_reset(uint64_t window);

/** Makes the chain that starts at descriptor `head` available; nothing is published yet. */
void queue_offer(struct queue *queue, uint16_t head);
/** Publishes what was offered and notifies the device unless it asked not to be. */
void queue_kick(struct queue *queue);
/** Takes one used entry, if there is one. */
bool queue_take(struct queue *queue, uint32_t *id, uint32_t *bytes);
