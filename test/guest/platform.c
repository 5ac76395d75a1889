// What the machine gives: the loader's command line, KVM's clock, and the ways out.

#include "guest.h"

#define HVM_START_INFO_CMDLINE 24      // hvm_start_info.cmdline_paddr
#define BOOT_PARAMS_CMDLINE 0x228      // boot_params.hdr.cmd_line_ptr
#define COMMAND_LINE_BYTES_MAX 2048
#define HEAP_BYTES_MAX (32u << 20)     // so that 64 MiB of RAM are enough

#define PAGE_2M (2ull << 20)
#define PAGE_USER_2M 0x87  // present, writable, the user's, 2 MiB

#define PAGE_USER 0x07

#define NOWHERE (1ull << 40)  // above all that is mapped

#define HIGH_GIB 4        // where a machine's RAM goes on above its devices
#define HIGH_GIB_COUNT 4  // of which as much is mapped, when `heap=` puts the heap there

#define COM1_FCR 0x3fa
#define COM1_LCR 0x3fb
#define PM1A_CNT 0x604
#define SLP_TYP_S5_EN (5 << 10 | 1 << 13)
#define I8042_COMMAND 0x64
#define I8042_RESET 0xfe
#define DEBUG_EXIT 0x501
#define EXIT_NOTICED_NS 3000000000ull  // how long the VMM may take to notice that we left

extern uint64_t boot_params, boot_pvh;
extern uint8_t heap_start[];
extern uint64_t pdpt[512], page_directories[4 * 512];
extern const uint32_t exception_stubs[32];
extern struct gate {
  uint16_t offset_low, selector, type, offset_middle;
  uint32_t offset_high, reserved;
} idt[32];

static char line[COMMAND_LINE_BYTES_MAX];

const char *command_line(void) {
  return line;
}

const char *entry_name(void) {
  return boot_pvh ? "PVH" : "the 64-bit Linux entry";
}

static void read_command_line(void) {
  uint64_t address = 0;
  if (boot_pvh) address = *(uint64_t *)(boot_pvh + HVM_START_INFO_CMDLINE);
  if (boot_params) address = *(uint32_t *)(boot_params + BOOT_PARAMS_CMDLINE);
  if (!address) return;
  const char *text = (const char *)address;
  for (size_t i = 0; i < sizeof line - 1 && text[i]; i++) line[i] = text[i];
}

// The text behind `name` where `name` starts a word of the command line, or NULL. The last one
// counts, so that a test can append to a command line that it was given.
static const char *find_option(const char *name) {
  size_t length = strlen(name);
  const char *found = NULL;
  for (const char *at = line; *at; at++) {
    bool starts = at == line || at[-1] == ' ';
    if (starts && memcmp(at, name, length) == 0) {
      char end = at[length];
      if (end == '=' || end == ' ' || end == 0) found = at + length;
    }
  }
  return found;
}

static uint64_t parse_number(const char **text) {
  const char *at = *text;
  uint32_t base = 10;
  if (at[0] == '0' && at[1] == 'x') {
    base = 16;
    at += 2;
  }
  uint64_t value = 0;
  for (;; at++) {
    uint32_t digit = *at >= 'a' ? *at - 'a' + 10u : *at - '0' + 0u;
    if (digit >= base) break;
    value = value * base + digit;
  }
  *text = at;
  return value;
}

uint64_t option_number(const char *name, uint64_t otherwise, const char **rest) {
  const char *text = find_option(name);
  if (!text || *text != '=') return otherwise;
  text++;
  uint64_t value = parse_number(&text);
  if (rest) *rest = text;
  return value;
}

bool option_is(const char *name, const char *value) {
  const char *text = find_option(name);
  if (!text) return false;
  if (!value) return true;
  size_t length = strlen(value);
  if (*text != '=' || memcmp(text + 1, value, length) != 0) return false;
  return text[1 + length] == ' ' || text[1 + length] == 0;
}

// KVM's clock (Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW): the same in every VMM,
// exact, and nothing has to be calibrated.
#define CPUID_KVM_SIGNATURE 0x40000000
#define CPUID_KVM_FEATURES 0x40000001
#define KVM_FEATURE_CLOCKSOURCE2 (1 << 3)
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01

static volatile struct pvclock_vcpu_time_info {
  uint32_t version;
  uint32_t pad0;
  uint64_t tsc_timestamp;
  uint64_t system_time;
  uint32_t tsc_to_system_mul;
  int8_t tsc_shift;
  uint8_t flags;
  uint8_t pad[2];
} __attribute__((aligned(32))) clock;

static void cpuid(uint32_t leaf, uint32_t out[4]) {
  __asm__ volatile("cpuid"
                   : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                   : "a"(leaf), "c"(0));
}

/** Called at CPL 0, from start.S: user code may not write an MSR. */
void clock_start(void) {
  uint32_t kvm[4];
  cpuid(CPUID_KVM_SIGNATURE, kvm);
  if (memcmp(&kvm[1], "KVMKVMKVM\0\0", 12) != 0) return;
  cpuid(CPUID_KVM_FEATURES, kvm);
  if (!(kvm[0] & KVM_FEATURE_CLOCKSOURCE2)) return;
  uint64_t enabled = (uint64_t)&clock | 1;
  __asm__ volatile("wrmsr"
                   :
                   : "c"(MSR_KVM_SYSTEM_TIME_NEW), "a"((uint32_t)enabled), "d"(enabled >> 32)
                   : "memory");
}

bool clock_is_real(void) {
  return clock.tsc_to_system_mul != 0;
}

uint64_t now_ns(void) {
  uint32_t low, high, version;
  uint64_t time;
  do {
    version = clock.version;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    uint64_t ticks = ((uint64_t)high << 32 | low);
    if (!clock_is_real()) return ticks;
    ticks -= clock.tsc_timestamp;
    ticks = clock.tsc_shift >= 0 ? ticks << clock.tsc_shift : ticks >> -clock.tsc_shift;
    time = clock.system_time +
           (uint64_t)((unsigned __int128)ticks * clock.tsc_to_system_mul >> 32);
  } while (version != clock.version || version & 1);
  return time;
}

void *allocate(size_t bytes) {
  static size_t taken;
  bytes = (bytes + 4095) & ~(size_t)4095;
  if (bytes > HEAP_BYTES_MAX - taken) {
    print("guest: out of memory: %u bytes wanted, %u of %u taken\n", (uint64_t)bytes,
          (uint64_t)taken, (uint64_t)HEAP_BYTES_MAX);
    leave(1);
  }
  void *memory = (uint8_t *)option_number("heap", (uint64_t)heap_start, NULL) + taken;
  taken += bytes;
  return memset(memory, 0, bytes);
}

// Three faults in a row: with no gate present, the first exception ends the machine.
static _Noreturn void triple_fault(void) {
  memset(idt, 0, sizeof idt);
  for (;;) __asm__ volatile("ud2");
}

static void wait_ns(uint64_t ns) {
  uint64_t end = now_ns() + ns;
  while (now_ns() < end) __asm__ volatile("pause");
}

_Noreturn void leave(uint8_t status) {
  if (option_is("exit", "hang")) {
    print("guest: hangs as it was told\n");
    for (;;) __asm__ volatile("pause");
  }
  if (option_is("exit", "exception")) *(volatile uint8_t *)NOWHERE = 0;
  if (option_is("exit", "triplefault")) triple_fault();
  if (option_is("exit", "debug")) {
    out8(DEBUG_EXIT, status);
    wait_ns(EXIT_NOTICED_NS);
    print("guest: still here after the debug exit\n");
  }
  if (!option_is("exit", "reset")) {
    out16(PM1A_CNT, SLP_TYP_S5_EN);
    wait_ns(EXIT_NOTICED_NS);
    print("guest: still here after power-off\n");
  }
  out8(I8042_COMMAND, I8042_RESET);
  wait_ns(EXIT_NOTICED_NS);
  print("guest: still here after reset\n");
  triple_fault();
}

struct exception_frame {
  uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/** Called at CPL 0, from start.S. */
_Noreturn void exception_caught(const struct exception_frame *frame) {
  uint64_t cr2;
  __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
  print("guest: exception %u at 0x%x, error 0x%x, cr2 0x%x\n", frame->vector, frame->rip,
        frame->error, cr2);
  triple_fault();
}

// RAM above 4 GiB, for a heap there: few guests have any, and a page that is not RAM is nobody's.
static void map_high(void) {
  static uint64_t directories[HIGH_GIB_COUNT * 512] __attribute__((aligned(4096)));
  for (uint64_t i = 0; i < HIGH_GIB_COUNT * 512; i++) {
    directories[i] = (HIGH_GIB * 512 + i) * PAGE_2M | PAGE_USER_2M;
  }
  for (uint64_t i = 0; i < HIGH_GIB_COUNT; i++) {
    pdpt[HIGH_GIB + i] = (uint64_t)&directories[i * 512] | PAGE_USER;
  }
}

void platform_start(void) {
  for (uint64_t i = 1; i < 4 * 512; i++) page_directories[i] = i * PAGE_2M | PAGE_USER_2M;
  for (int vector = 0; vector < 32; vector++) {
    if (idt[vector].type) continue;  // #UD has its gate already
    idt[vector].offset_low = (uint16_t)exception_stubs[vector];
    idt[vector].offset_middle = (uint16_t)(exception_stubs[vector] >> 16);
    idt[vector].selector = 0x08;
    idt[vector].type = 0x8e00;
  }
  out8(COM1_LCR, 3);  // 8 data bits, no parity, 1 stop bit
  out8(COM1_FCR, 1);  // FIFO on: 16 bytes without asking
  read_command_line();
  if (option_is("heap", NULL)) map_high();
}
