// Registers and configuration space, used as nobody should.

#include "hostile.h"

#define WINDOW_BYTES 0x1000
#define CONFIG 0x100
#define DRIVING (ACKNOWLEDGE | DRIVER)
#define RUNNING (DRIVING | FEATURES_OK | DRIVER_OK)

static const struct outcome refused = {.verdict = REFUSED};
static const struct outcome turned_down = {.verdict = TURNED_DOWN};
static const struct outcome ignored = {.verdict = IGNORED};

static void expect(const char *what, uint64_t got, uint64_t expected) {
  if (got != expected) fail(what, got, expected);
}

static uint32_t queue_register(void) {
  static const uint32_t registers[] = {QueueNum,           QueueDescLow,      QueueDescLow + 4,
                                       QueueDriverLow,     QueueDriverLow + 4, QueueDeviceLow,
                                       QueueDeviceLow + 4};
  return registers[below(7)];
}

struct outcome play_queue_select(void) {
  uint32_t selected = 1 + (one_in(2) ? below(64) : below(0xffffffff));
  reg_write(QueueSel, selected);
  expect("the size of a queue that is not there", reg_read(QueueNumMax), 0);
  expect("the readiness of a queue that is not there", reg_read(QueueReady), 0);
  if (one_in(3)) {
    reg_write(QueueSel, 0);
    return ignored;
  }
  if (one_in(2)) reg_write(queue_register(), one_in(2) ? (uint32_t)RINGS : random_u32());
  else reg_write(QueueReady, below(2));
  return refused;
}

struct outcome play_queue_size(void) {
  if (one_in(3)) {  // changed after enabling
    if (one_in(4)) reg_write(QueueReady, 2 + below(0xfffffffe));
    else reg_write(queue_register(), one_in(2) ? session.size : 32);
    return refused;
  }
  session_begin();
  uint32_t size = random_u32() >> below(32);
  if (size <= 64 && (size & (size - 1)) == 0) size = 0;
  if (one_in(4)) size = 1u << (7 + below(25));
  reg_write(QueueNum, size);
  return refused;
}

static void write_address(uint32_t low, uint64_t address) {
  reg_write(low, (uint32_t)address);
  reg_write(low + 4, (uint32_t)(address >> 32));
}

static uint64_t no_ring_address(void) {
  switch (below(6)) {
    case 0:
      return RAM_END - below(4) * 16;  // and then the ring crosses the end
    case 1:
      return RAM_END + below(0x10000000) * 16ull % (0xd0000000 - RAM_END);
    case 2:
      return session.window + below(0x200) * 16;
    case 3:
      return 0 - 16ull * (1 + below(100));
    case 4:
      return (1ull << 32) * (1 + below(0xffffffff)) + RINGS;
    default:
      return 1ull << (32 + below(32));
  }
}

struct outcome play_rings(void) {
  session_begin();
  session_rings();
  session.size = 32u << below(2);
  reg_write(QueueNum, session.size);
  static const uint32_t parts[] = {QueueDescLow, QueueDriverLow, QueueDeviceLow};
  uint64_t at[] = {(uint64_t)session.desc, (uint64_t)session.avail, (uint64_t)session.used};
  static const uint32_t aligns[] = {16, 2, 4};
  uint64_t bytes[] = {session.size * 16ull, VIRTQ_AVAIL_BYTES(session.size),
                      VIRTQ_USED_BYTES(session.size)};
  uint32_t part = below(3), other = (part + 1 + below(2)) % 3;
  uint64_t address = no_ring_address();
  if (one_in(3)) address = at[part] + 1 + below(aligns[part] - 1);
  else if (one_in(2)) address = at[other] + below((uint32_t)(bytes[other] / 16)) * 16;
  else if (one_in(4)) {  // only just
    address = (at[other] - bytes[part] + aligns[part]) & ~(aligns[part] - 1ull);
  }
  write_address(parts[part], address);
  reg_write(QueueReady, 1);
  expect("a queue is ready with wrong rings: QueueReady", reg_read(QueueReady), 0);
  return refused;
}

static struct outcome fail_by_driver(void) {
  reg_write(Status, RUNNING | FAILED);
  put_desc(session.desc, 0, writable_desc());
  offer(0);
  kick();
  spin(2000);
  expect("the status after FAILED", reg_read(Status), RUNNING | FAILED);
  expect("used entries after FAILED", (uint16_t)(session.used->idx - session.seen), 0);
  return turned_down;
}

struct outcome play_status(void) {
  switch (below(7)) {
    case 0:  // cleared without reset
      reg_write(Status, 1 + below(RUNNING - 1));
      return refused;
    case 1:  // no features agreed on
      reg_write(Status, 0);
      reg_write(Status, DRIVING >> below(2) | DRIVER_OK);
      return refused;
    case 2:  // features before anybody is there
      session_begin();
      reg_write(Status, 0);
      reg_write(DriverFeaturesSel, 1);
      reg_write(DriverFeatures, 1);
      reg_write(Status, FEATURES_OK | below(3));
      expect("FEATURES_OK too early", reg_read(Status) & FEATURES_OK, 0);
      return turned_down;
    case 3:
      return fail_by_driver();
    case 4:  // bits that are not the driver's
      reg_write(Status, RUNNING | DEVICE_NEEDS_RESET | (random_u32() & ~(uint32_t)FAILED));
      expect("the status after unknown bits", reg_read(Status), RUNNING);
      return ignored;
    case 5:  // a queue before FEATURES_OK
      reg_write(Status, 0);
      reg_write(Status, DRIVING);
      session_rings();
      reg_write(QueueReady, 1);
      expect("a queue is ready before FEATURES_OK", reg_read(QueueReady), 0);
      return refused;
    default:  // everything at once, which is some order
      session_begin();
      reg_write(Status, 0);
      reg_write(Status, RUNNING);
      return refused;
  }
}

struct outcome play_features(void) {
  if (one_in(4)) {
    reg_write(DriverFeaturesSel, below(4));
    reg_write(DriverFeatures, one_in(2) ? 1 : random_u32());
    return refused;  // after FEATURES_OK
  }
  reg_write(Status, 0);
  reg_write(Status, DRIVING);
  reg_write(DeviceFeaturesSel, 2 + below(0xfffffffd));
  expect("features beyond bit 63", reg_read(DeviceFeatures), 0);
  reg_write(DriverFeaturesSel, 1);
  uint32_t fault = below(3);
  uint32_t high = 1;
  if (fault == 0) high = one_in(2) ? 0 : random_u32() & ~1u;  // VERSION_1 not accepted
  if (fault == 1) high |= 2u << below(31);                    // not offered
  reg_write(DriverFeatures, high);
  if (fault == 2) {
    reg_write(DriverFeaturesSel, one_in(2) ? 0 : 2 + below(0xfffffffd));
    reg_write(DriverFeatures, 1u << below(28));
  }
  reg_write(Status, DRIVING | FEATURES_OK);
  expect("features accepted that were not offered", reg_read(Status), DRIVING);
  return turned_down;
}

static uint32_t any_width(void) {
  return 1u << below(4);
}

struct outcome play_config(void) {
  for (uint32_t count = 8 + below(40); count > 0; count--) {
    uint32_t width = any_width();
    uint64_t at = session.window + CONFIG + below(WINDOW_BYTES - CONFIG - width + 1);
    if (one_in(3)) access_write(at, width, random_u32());
    else expect("config space of a device without one", access_read(at, width), 0);
  }
  return ignored;
}

/** An access that is no access to a register, whatever it writes. */
static void odd_access(void) {
  static const uint32_t read_only[] = {0x000, 0x004, 0x008, 0x00c, 0x010, 0x034, 0x060,
                                       0x0b0, 0x0b4, 0x0b8, 0x0bc, 0x0fc, 0x018, 0x0f8};
  uint64_t window = session.window;
  switch (below(5)) {
    case 0: {  // narrow
      uint32_t width = 1 + below(2);
      uint64_t at = window + below(CONFIG - width + 1);
      if (one_in(2)) access_write(at, width, random_u32());
      else access_read(at, width);
      return;
    }
    case 1: {  // across two registers
      uint32_t width = 4 << below(2);
      uint64_t at = window + below(CONFIG / 4 - 2) * 4 + 1 + below(3);
      if (one_in(2)) access_write(at, width, (uint64_t)random_u32() << 32 | random_u32());
      else access_read(at, width);
      return;
    }
    case 2:  // every one can be read
      access_read(window + below(CONFIG / 4) * 4, 4 << below(2));
      return;
    case 3:  // not every one can be written
      access_write(window + read_only[below(14)], 4, random_u32());
      return;
    default: {  // across the end of the window, into the next one
      uint32_t width = 2 << below(3);
      uint64_t at = window + WINDOW_BYTES - 1 - below(width - 1);
      if (one_in(2)) access_write(at, width, (uint64_t)random_u32() << 32 | random_u32());
      else access_read(at, width);
    }
  }
}

struct outcome play_widths(void) {
  for (uint32_t count = 8 + below(40); count > 0; count--) odd_access();
  uint64_t nowhere = session.window + 2 * WINDOW_BYTES + below(16 * WINDOW_BYTES) * 4;
  expect("a window without a device", access_read(nowhere, 4), 0xffffffff);
  access_write(nowhere, any_width(), random_u32());
  return ignored;
}

struct outcome play_notify(void) {
  if (one_in(4)) {  // a queue that is not ready
    session_begin();
    reg_write(Status, RUNNING);
    for (uint32_t count = 1 + below(16); count > 0; count--) kick();
    expect("the status after an early notify", reg_read(Status), RUNNING);
    return turned_down;
  }
  for (uint32_t count = 8 + below(40); count > 0; count--) {
    if (one_in(2)) kick();
    else if (one_in(2)) reg_write(QueueNotify, 1 + below(0xfffffffe));
    else access_write(session.window + QueueNotify, 1u << below(2), below(3));
  }
  return ignored;
}

/** A value for any register; addresses are those of rings, or no RAM. */
static uint32_t raw_value(uint32_t offset) {
  uint32_t site = (uint32_t)(uint64_t)session.desc;
  uint32_t part = offset == QueueDriverLow ? 4096 : offset == QueueDeviceLow ? 8192 : 0;
  if (offset >= QueueDescLow && offset <= QueueDeviceLow) {
    if (offset % 16) return one_in(3) ? random_u32() : 0;
    return one_in(3) ? 0xd0000000 + below(0x3000) : site + part;
  }
  static const uint32_t values[] = {0, 1, 2, 3, 4, 7, 8, 11, 15, 16, 32, 64, 65, 79, 128, 255};
  return one_in(4) ? random_u32() : values[below(16)];
}

static void raw_write(void) {
  static const uint32_t writable[] = {
      DeviceFeaturesSel,  DriverFeatures,     DriverFeaturesSel,  QueueSel,
      QueueNum,           QueueReady,         QueueNotify,        0x064,
      Status,             QueueDescLow,       QueueDescLow + 4,   QueueDriverLow,
      QueueDriverLow + 4, QueueDeviceLow,     QueueDeviceLow + 4, 0x0ac};
  uint32_t offset = writable[below(16)];
  uint32_t value = raw_value(offset);
  reg_write(offset, value);
  if (offset != Status || value != 0) return;
  // After a reset an address is 0 until it is written: no hostile ring may be there.
  reg_write(QueueDescLow, (uint32_t)(uint64_t)session.desc);
  reg_write(QueueDriverLow, (uint32_t)(uint64_t)session.avail);
  reg_write(QueueDeviceLow, (uint32_t)(uint64_t)session.used);
  if (one_in(2)) reg_write(Status, DRIVING);
}

struct outcome play_raw(void) {
  if (one_in(2)) session_begin(), session_rings();
  for (uint32_t count = 16 + below(64); count > 0; count--) {
    if (one_in(8)) odd_access();
    else raw_write();
  }
  return (struct outcome){.verdict = ANYTHING};
}
