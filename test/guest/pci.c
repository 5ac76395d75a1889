// PCI bus 0, through configuration mechanism 1 (PCI Local Bus Specification 3.0 §3.2.2.3.2).

#include "guest.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define ENABLE 0x80000000u
#define NOBODY 0xffffffffu
#define SLOTS 32

// Offsets in configuration space (§6.1), and of virtio's capabilities (virtio v1.2 §4.1.4).
#define COMMAND 0x04
#define COMMAND_MEMORY_MASTER 6
#define BAR_0 0x10
#define CAPABILITIES 0x34
#define CAP_ID_VENDOR 9
#define CAP_OFFSET 8
#define CAP_NOTIFY_MULTIPLIER 16
#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define CAP_DEVICE 4

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_DEVICE_BASE 0x1040

static struct pci_function functions[SLOTS];

static uint32_t config_read(uint32_t slot, uint32_t offset) {
  out32(CONFIG_ADDRESS, ENABLE | slot << 11 | (offset & 0xfc));
  return in32(CONFIG_DATA) >> (offset & 3) * 8;
}

static void config_write(uint32_t slot, uint32_t offset, uint32_t value) {
  out32(CONFIG_ADDRESS, ENABLE | slot << 11 | (offset & 0xfc));
  out32(CONFIG_DATA, value);
}

bool pci_exists(void) {
  return config_read(0, 0) != NOBODY;
}

// Moves the BAR to where `bar=` says, slot by slot, if it says anything: there is no reason why it
// should stay where it was.
static uint64_t place_bar(uint32_t slot) {
  uint64_t base = option_number("bar", 0, NULL);
  config_write(slot, COMMAND, 0);
  if (base) {
    config_write(slot, BAR_0, NOBODY);
    uint32_t size = ~(config_read(slot, BAR_0) & ~15u) + 1;
    config_write(slot, BAR_0, (uint32_t)base + slot * size);
  }
  config_write(slot, COMMAND, COMMAND_MEMORY_MASTER);
  return config_read(slot, BAR_0) & ~15u;
}

static void read_capabilities(uint32_t slot) {
  uint64_t bar = place_bar(slot);
  struct pci_function *function = &functions[slot];
  uint32_t at = config_read(slot, CAPABILITIES) & 0xff;
  for (int limit = 48; at && limit > 0; limit--, at = config_read(slot, at + 1) & 0xff) {
    uint32_t head = config_read(slot, at);
    if ((head & 0xff) != CAP_ID_VENDOR) continue;
    uint64_t place = bar + config_read(slot, at + CAP_OFFSET);
    if (head >> 24 == CAP_COMMON) function->common = place;
    if (head >> 24 == CAP_DEVICE) function->config = place;
    if (head >> 24 != CAP_NOTIFY) continue;
    function->notify = place;
    function->multiplier = config_read(slot, at + CAP_NOTIFY_MULTIPLIER);
  }
}

uint32_t pci_each(uint32_t id, void (*found)(uint64_t window, uint32_t number)) {
  uint32_t number = 0;
  for (uint32_t slot = 0; slot < SLOTS; slot++) {
    uint32_t who = (VIRTIO_DEVICE_BASE + id) << 16 | VIRTIO_VENDOR;
    if (config_read(slot, 0) != who) continue;
    read_capabilities(slot);
    found(functions[slot].common, number++);
  }
  return number;
}

const struct pci_function *pci_function_at(uint64_t window) {
  for (uint32_t slot = 0; slot < SLOTS; slot++) {
    if (functions[slot].common == window) return &functions[slot];
  }
  return NULL;
}
