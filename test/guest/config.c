// A driver of a device that exists for tests alone: it writes a selector to the config space and
// reads what the device makes of it (virtio v1.2 §2.5), again and again.
//
//   rounds=1000
//   exit=poweroff|debug|reset|triplefault|exception|hang

#include "guest.h"

#define VIRTIO_ID_SELECTOR 42  // test/machine/config.test.ts

// Its config space.
#define CONFIG 0x100
#define SELECT (CONFIG + 0)  // u32
#define ANSWER (CONFIG + 4)  // u32: 3 * select + 1
#define MIRROR (CONFIG + 8)  // u64: ~select above, select below

static uint32_t passed, failed;

static inline uint64_t mmio_read64(uint64_t address) {
  uint64_t value;
  __asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}

/** Whether the device has answered to the selector that was written last. */
static bool is_fresh(uint64_t window, uint32_t select) {
  if (mmio_read(window + ANSWER) != 3 * select + 1) return false;
  return mmio_read64(window + MIRROR) == ((uint64_t)~select << 32 | select);
}

static uint32_t stale_of(uint64_t window, uint32_t from, uint32_t to) {
  uint32_t stale = 0;
  for (uint32_t select = from; select < to; select++) {
    mmio_write(window + SELECT, select);
    if (!is_fresh(window, select)) stale++;
  }
  return stale;
}

static void found(uint64_t window, uint32_t number) {
  struct device device;
  uint32_t rounds = (uint32_t)option_number("rounds", 1000, NULL);
  print("config%u: at 0x%x\n", (uint64_t)number, window);
  bool accepted = virtio_negotiate(&device, window, 0);
  uint64_t start = now_ns();
  uint32_t stale = stale_of(window, 1, rounds / 2);
  virtio_driver_ok(&device);
  stale += stale_of(window, rounds / 2, rounds + 1);
  uint64_t ns = now_ns() - start;
  virtio_reset(window);
  mmio_write(window + SELECT, 0);  // and wait until the device has heard of both
  bool fine = accepted && !stale && mmio_read(window + ANSWER) == 1;
  print("config%u: %u rounds in %u ns, %u stale\n", (uint64_t)number, (uint64_t)rounds, ns,
        (uint64_t)stale);
  if (fine) {
    passed++;
  } else {
    failed++;
  }
}

void main(void) {
  platform_start();
  if (virtio_each(VIRTIO_ID_SELECTOR, found) == 0) print("guest: no device to select from\n");
  bool fine = passed && !failed;
  print("config guest: %u passed, %u failed: %s\n", (uint64_t)passed, (uint64_t)failed,
        fine ? "PASS" : "FAIL");
  leave(fine ? 0 : 1);
}
