// Entries of a CUDA library that is opened when one of its functions is first called (x86-64, ELF).
//
// Each function has a record of two words, where to go and its name, and an entry that jumps to where
// its record says. At first that is a piece of code that has `bind.c` find the function and put its
// address into the record. Arguments stay where the caller put them, in registers and on the stack.

    .section .note.GNU-stack, "", @progbits

    .text
    .p2align 4
    .type bind, @function
// r11: the record. The stack pointer is 8 off a multiple of 16, as it is whenever a function starts.
bind:
    pushq %r11
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %r8
    pushq %r9
    // The number of vector registers that a variadic call uses.
    pushq %rax
    // Eight words were pushed: 8 more bytes align the stack for the call.
    subq $136, %rsp
    movups %xmm0, (%rsp)
    movups %xmm1, 16(%rsp)
    movups %xmm2, 32(%rsp)
    movups %xmm3, 48(%rsp)
    movups %xmm4, 64(%rsp)
    movups %xmm5, 80(%rsp)
    movups %xmm6, 96(%rsp)
    movups %xmm7, 112(%rsp)
    movq %r11, %rdi
    call BIND
    movups (%rsp), %xmm0
    movups 16(%rsp), %xmm1
    movups 32(%rsp), %xmm2
    movups 48(%rsp), %xmm3
    movups 64(%rsp), %xmm4
    movups 80(%rsp), %xmm5
    movups 96(%rsp), %xmm6
    movups 112(%rsp), %xmm7
    addq $136, %rsp
    movq %rax, %r11
    popq %rax
    popq %r9
    popq %r8
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    // The record, which nobody needs any more.
    addq $8, %rsp
    jmp *%r11
    .size bind, . - bind

    .macro FUNCTION name
    .section .rodata.str1.1, "aMS", @progbits, 1
.Ltext_\name:
    .string "\name"
    .section .data.rel.local, "aw", @progbits
    .p2align 3
.Lrecord_\name:
    .quad .Lbind_\name
    .quad .Ltext_\name
    .text
    .p2align 4
    .globl \name
    // For this program alone: a library that is opened later finds its own functions, not these.
    .hidden \name
    .type \name, @function
\name:
    endbr64
    jmp *.Lrecord_\name(%rip)
.Lbind_\name:
    endbr64
    leaq .Lrecord_\name(%rip), %r11
    jmp bind
    .size \name, . - \name
    .endm

