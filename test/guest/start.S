// From the loader to CPL 3. Two ways in: the 64-bit Linux entry (long mode, RSI = boot_params) and
// PVH (32-bit protected mode, paging off, EBX = hvm_start_info). One way on: long mode, our own
// page tables, IOPL 3, CPL 3, then main().
//
// Why CPL 3: a software KVM runs CPL 0 in its instruction emulator, a thousand times slower than
// user code, and that emulator lacks iretq and ltr. With IOPL 3 user code can do all that a polling
// driver needs: port I/O, memory-mapped I/O, rdtsc.

#define CODE64 0x08                     // SYSENTER_CS: sysexitq derives the user selectors from it
#define DATA 0x10
#define USER_CODE64 (CODE64 + 32 + 3)
#define USER_DATA (CODE64 + 40 + 3)
#define CR0_PE_PG 0x80000001
#define CR4_PAE 0x20
#define EFER 0xc0000080
#define EFER_LME 0x100
#define MSR_SYSENTER_CS 0x174
#define RFLAGS_IOPL3 0x3002
#define PAGE_USER 0x07                  // present, writable, user
#define PAGE_USER_2M 0x87               // the same, and a page of 2 MiB
#define GATE_INTERRUPT 0x8e00

#define XEN_ELFNOTE_PHYS32_ENTRY 18
	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.long start32

// Identity map of the first 2 MiB, where this program is; main() maps the rest of the 4 GiB, at
// full speed. Every page is the user's. Assembles for 32 and for 64-bit mode. (Pages of 1 GiB would
// need fewer lines, but not every KVM's guests have them.)
	.macro MAP_2_MIB
	movl $pdpt + PAGE_USER, pml4
	movl $page_directories + PAGE_USER, pdpt
	movl $page_directories + 0x1000 + PAGE_USER, pdpt + 8
	movl $page_directories + 0x2000 + PAGE_USER, pdpt + 16
	movl $page_directories + 0x3000 + PAGE_USER, pdpt + 24
	movl $PAGE_USER_2M, page_directories
	.endm

	.section .text.start, "ax"
	.code32
start32:
	cld
	movl %ebx, boot_pvh
	MAP_2_MIB
	movl $CR4_PAE, %eax
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $EFER, %ecx
	movl $EFER_LME, %eax
	xorl %edx, %edx
	wrmsr
	movl $CR0_PE_PG, %eax
	movl %eax, %cr0
	lgdt gdtr
	ljmp $CODE64, $long_mode

	.code64
	.globl start64
start64:
	cld
	movl %esi, boot_params
	MAP_2_MIB
	movl $CR4_PAE, %eax
	movq %rax, %cr4
	movl $pml4, %eax
	movq %rax, %cr3
	movl $kernel_stack, %esp
	lgdt gdtr
	pushq $CODE64
	pushq $long_mode
	lretq

long_mode:
	movl $DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $kernel_stack, %esp
	movq $kernel_stack, 4           // RSP0: the reset TSS is at address 0, and ltr is not to be had

	movl $sysexit_refused, %eax     // the gate of #UD; main() makes the others
	movw %ax, idt + 6 * 16
	movl $CODE64 | GATE_INTERRUPT << 16, idt + 6 * 16 + 2
	shrl $16, %eax
	movw %ax, idt + 6 * 16 + 6
	lidt idtr
	call clock_start

	movl $MSR_SYSENTER_CS, %ecx
	movl $CODE64, %eax
	xorl %edx, %edx
	wrmsr
	pushq $RFLAGS_IOPL3
	popfq
	movl $user_main, %edx           // RIP
	movl $user_stack, %ecx          // RSP
sysexit:
	sysexitq

// On AMD hardware sysexit is undefined in long mode, and iretq is the way there.
sysexit_refused:
	cmpq $sysexit, (%rsp)
	jne exception_6
	pushq $USER_DATA
	pushq %rcx
	pushq $RFLAGS_IOPL3
	pushq $USER_CODE64
	pushq %rdx
	iretq

user_main:
	xorl %ebp, %ebp
	call main
	ud2

// Any exception: a bug of the guest's own, or of the VMM's. `exception_stubs` has one address each.
	.macro EXCEPTION vector
exception_\vector:
	.if (\vector == 8) || (\vector >= 10 && \vector <= 14) || (\vector == 17)
	.else
	pushq $0                        // where the CPU pushes no error code
	.endif
	pushq $\vector
	movq %rsp, %rdi
	jmp exception_caught
	.section .rodata
	.long exception_\vector
	.section .text.start
	.endm

	.section .rodata
	.globl exception_stubs
exception_stubs:
	.section .text.start
	.altmacro
	.set vector, 0
	.rept 32
	EXCEPTION %vector
	.set vector, vector + 1
	.endr

	.section .rodata
	.align 8
gdt:
	.quad 0
	.quad 0x00af9b000000ffff        // 0x08 CPL 0, 64-bit code
	.quad 0x00cf93000000ffff        // 0x10 CPL 0, data
	.quad 0x00cffb000000ffff        // 0x18 CPL 3, 32-bit code: unused, sysexit wants the place
	.quad 0x00cff3000000ffff        // 0x20 CPL 3, 32-bit data: likewise
	.quad 0x00affb000000ffff        // 0x28 CPL 3, 64-bit code
	.quad 0x00cff3000000ffff        // 0x30 CPL 3, data
gdtr:
	.word . - gdt - 1
	.quad gdt
idtr:
	.word 32 * 16 - 1
	.quad idt

	.data
	.globl boot_params, boot_pvh
boot_params:
	.quad 0
boot_pvh:
	.quad 0

	.bss
	.align 4096
pml4:	.skip 4096
pdpt:	.skip 4096
	.globl pdpt, page_directories, idt
page_directories:
	.skip 4 * 4096
idt:	.skip 32 * 16
	.skip 4096
	.align 16
kernel_stack:
	.skip 16384
	.align 16
user_stack:

	.section .note.GNU-stack, "", @progbits
