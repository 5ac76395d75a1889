// PCI bus 0, through configuration mechanism 1 (PCI Local Bus Specification 3.0 §3.2.2.3.2).

#include "guest.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define ENABLE 0x80000000u
#define NOBODY 0xffffffffu
#define FUNCTIONS_OF_SLOT 8
#define FUNCTIONS (32 * FUNCTIONS_OF_SLOT)

// Offsets in configuration space (§6.1), and of virtio's capabilities (virtio v1.2 §4.1.4).
#define COMMAND 0x04
#define COMMAND_MEMORY_MASTER 6
#define HEADER_TYPE 0x0e
#define HEADER_MULTIFUNCTION 0x80
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

// By slot and function, eight functions a slot.
static struct pci_function functions[FUNCTIONS];

static uint32_t config_read(uint32_t at, uint32_t offset) {
  out32(CONFIG_ADDRESS, ENABLE | at << 8 | (offset & 0xfc));
  return in32(CONFIG_DATA) >> (offset & 3) * 8;
}

static void config_write(uint32_t at, uint32_t offset, uint32_t value) {
  out32(CONFIG_ADDRESS, ENABLE | at << 8 | (offset & 0xfc));
  out32(CONFIG_DATA, value);
}

bool pci_exists(void) {
  return config_read(0, 0) != NOBODY;
}

// Moves the BAR to where `bar=` says, one behind the other, if it says anything: there is no reason
// why it should stay where it was.
static uint64_t place_bar(uint32_t where, uint32_t number) {
  uint64_t base = option_number("bar", 0, NULL);
  config_write(where, COMMAND, 0);
  if (base) {
    config_write(where, BAR_0, NOBODY);
    uint32_t size = ~(config_read(where, BAR_0) & ~15u) + 1;
    config_write(where, BAR_0, (uint32_t)base + number * size);
  }
  config_write(where, COMMAND, COMMAND_MEMORY_MASTER);
  return config_read(where, BAR_0) & ~15u;
}

static void read_capabilities(uint32_t where, uint32_t number) {
  uint64_t bar = place_bar(where, number);
  struct pci_function *function = &functions[where];
  uint32_t at = config_read(where, CAPABILITIES) & 0xff;
  for (int limit = 48; at && limit > 0; limit--, at = config_read(where, at + 1) & 0xff) {
    uint32_t head = config_read(where, at);
    if ((head & 0xff) != CAP_ID_VENDOR) continue;
    uint64_t place = bar + config_read(where, at + CAP_OFFSET);
    if (head >> 24 == CAP_COMMON) function->common = place;
    if (head >> 24 == CAP_DEVICE) function->config = place;
    if (head >> 24 != CAP_NOTIFY) continue;
    function->notify = place;
    function->multiplier = config_read(where, at + CAP_NOTIFY_MULTIPLIER);
  }
}

uint32_t pci_each(uint32_t id, void (*found)(uint64_t window, uint32_t number)) {
  uint32_t number = 0;
  for (uint32_t where = 0; where < FUNCTIONS; where++) {
    uint32_t who = (VIRTIO_DEVICE_BASE + id) << 16 | VIRTIO_VENDOR;
    // Only the first function of a slot says whether there are others (§6.2.1).
    uint32_t first = where - where % FUNCTIONS_OF_SLOT;
    if (where != first && !(config_read(first, HEADER_TYPE) & HEADER_MULTIFUNCTION)) continue;
    if (config_read(where, 0) != who) continue;
    read_capabilities(where, number);
    found(functions[where].common, number++);
  }
  return number;
}

const struct pci_function *pci_function_at(uint64_t window) {
  for (uint32_t where = 0; where < FUNCTIONS; where++) {
    if (functions[where].common == window) return &functions[where];
  }
  return NULL;
}
