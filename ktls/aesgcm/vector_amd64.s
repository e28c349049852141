#include "textflag.h"

// AES-GCM with vectors of four blocks.
//
// Registers throughout:
//   Z16 to Z29  round keys but the last, each four times; Z30 the last one
//   Z31         E(J0), with which the tag is masked
//   Z12         the next four counter blocks, their bytes reversed: the counter is the lowest 32 bits
//   Z13         4, to add to each counter
//   Z11         what reverses the bytes of a block for VPSHUFB
//   Z10         the polynomial, see REDUCE
//   X9          GHASH so far, bytes reversed; the register's other three quarters are zero
//   Z4, Z5, Z6  a product's low, middle and high part
//   AX          the key (struct vector)
//
// GHASH multiplies the reversed bytes of each block by a power of H that has been divided by x, so that the
// product of two 128-bit numbers is where it should be (bit 255 is x^0) without a shift.

#define ROUND_KEYS 0
#define POWERS     240
#define H1         480              // the last of the powers
#define LONG       544

DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

DATA polynomial<>+0(SB)/8, $1
DATA polynomial<>+8(SB)/8, $0xc200000000000000
GLOBL polynomial<>(SB), RODATA|NOPTR, $16

DATA ahead<>+0(SB)/8, $1
DATA ahead<>+8(SB)/8, $0
DATA ahead<>+16(SB)/8, $2
DATA ahead<>+24(SB)/8, $0
DATA ahead<>+32(SB)/8, $3
DATA ahead<>+40(SB)/8, $0
DATA ahead<>+48(SB)/8, $4
DATA ahead<>+56(SB)/8, $0
GLOBL ahead<>(SB), RODATA|NOPTR, $64

#define LOAD_KEYS \
	VBROADCASTI32X4 (ROUND_KEYS+0x00)(AX), Z16; \
	VBROADCASTI32X4 (ROUND_KEYS+0x10)(AX), Z17; \
	VBROADCASTI32X4 (ROUND_KEYS+0x20)(AX), Z18; \
	VBROADCASTI32X4 (ROUND_KEYS+0x30)(AX), Z19; \
	VBROADCASTI32X4 (ROUND_KEYS+0x40)(AX), Z20; \
	VBROADCASTI32X4 (ROUND_KEYS+0x50)(AX), Z21; \
	VBROADCASTI32X4 (ROUND_KEYS+0x60)(AX), Z22; \
	VBROADCASTI32X4 (ROUND_KEYS+0x70)(AX), Z23; \
	VBROADCASTI32X4 (ROUND_KEYS+0x80)(AX), Z24; \
	VBROADCASTI32X4 (ROUND_KEYS+0x90)(AX), Z25; \
	VBROADCASTI32X4 (ROUND_KEYS+0xa0)(AX), Z26; \
	VBROADCASTI32X4 (ROUND_KEYS+0xb0)(AX), Z27; \
	VBROADCASTI32X4 (ROUND_KEYS+0xc0)(AX), Z28; \
	VBROADCASTI32X4 (ROUND_KEYS+0xd0)(AX), Z29; \
	VBROADCASTI32X4 (ROUND_KEYS+0xe0)(AX), Z30

// The rounds between the first key and the last, of the vectors that one ROUND takes. AES-128 has ten keys less
// one of them, AES-256 four more.
#define SHORT_ROUNDS(ROUND) \
	ROUND(Z17) \
	ROUND(Z18) \
	ROUND(Z19) \
	ROUND(Z20) \
	ROUND(Z21) \
	ROUND(Z22) \
	ROUND(Z23) \
	ROUND(Z24) \
	ROUND(Z25)

#define LONG_ROUNDS(ROUND) \
	ROUND(Z26) \
	ROUND(Z27) \
	ROUND(Z28) \
	ROUND(Z29)

#define ROUND_OF_ONE(KEY) \
	VAESENC KEY, Z0, Z0;

#define ROUND_OF_FOUR(KEY) \
	VAESENC KEY, Z0, Z0; \
	VAESENC KEY, Z1, Z1; \
	VAESENC KEY, Z2, Z2; \
	VAESENC KEY, Z3, Z3;

// The next counter blocks, encrypted but for the last round. R8 is 1 for AES-256.
#define COUNTERS(Z) \
	VPSHUFB Z11, Z12, Z; \
	VPADDD  Z13, Z12, Z12; \
	VPXORD  Z16, Z, Z

// (Z4, Z5, Z6) = D times the power of H at P.
#define MULTIPLY(P, D) \
	VPCLMULQDQ $0x00, P, D, Z4; \
	VPCLMULQDQ $0x01, P, D, Z5; \
	VPCLMULQDQ $0x10, P, D, Z7; \
	VPCLMULQDQ $0x11, P, D, Z6; \
	VPXORD     Z7, Z5, Z5

// The same, added.
#define MULTIPLY_ADD(P, D) \
	VPCLMULQDQ $0x00, P, D, Z7; \
	VPCLMULQDQ $0x01, P, D, Z8; \
	VPCLMULQDQ $0x10, P, D, Z14; \
	VPCLMULQDQ $0x11, P, D, Z15; \
	VPXORD     Z7, Z4, Z4; \
	VPTERNLOGD $0x96, Z14, Z8, Z5; \
	VPXORD     Z15, Z6, Z6

// Z6 = the product modulo x^128 + x^7 + x^2 + x + 1: its lowest 64 bits are taken off twice, by adding the
// polynomial's multiple (Gueron and Kounavis, "Carry-Less Multiplication and its Usage for Computing the GCM Mode").
#define REDUCE \
	VPCLMULQDQ $0x01, Z4, Z10, Z7; \
	VPSHUFD    $0x4e, Z4, Z4; \
	VPTERNLOGD $0x96, Z7, Z4, Z5; \
	VPCLMULQDQ $0x01, Z5, Z10, Z7; \
	VPSHUFD    $0x4e, Z5, Z5; \
	VPTERNLOGD $0x96, Z7, Z5, Z6

// X9 = the sum of the four quarters of Z6.
#define FOLD \
	VEXTRACTI64X4 $1, Z6, Y7; \
	VPXOR         Y7, Y6, Y6; \
	VEXTRACTI128  $1, Y6, X7; \
	VPXOR         X7, X6, X9

// Goes on with the one block in X0, bytes reversed.
#define GHASH_BLOCK \
	VPXOR   X9, X0, X0; \
	VMOVDQU H1(AX), X1; \
	MULTIPLY(Z1, Z0); \
	REDUCE; \
	VMOVDQA X6, X9

// Goes on with the sixteen blocks in Z0 to Z3.
#define GHASH_SIXTEEN \
	VPSHUFB Z11, Z0, Z0; \
	VPSHUFB Z11, Z1, Z1; \
	VPSHUFB Z11, Z2, Z2; \
	VPSHUFB Z11, Z3, Z3; \
	VPXORD  Z9, Z0, Z0; \
	MULTIPLY((POWERS+0x00)(AX), Z0); \
	MULTIPLY_ADD((POWERS+0x40)(AX), Z1); \
	MULTIPLY_ADD((POWERS+0x80)(AX), Z2); \
	MULTIPLY_ADD((POWERS+0xc0)(AX), Z3); \
	REDUCE; \
	FOLD

#define COUNTERS_OF_FOUR \
	COUNTERS(Z0); \
	COUNTERS(Z1); \
	COUNTERS(Z2); \
	COUNTERS(Z3); \
	SHORT_ROUNDS(ROUND_OF_FOUR)

// Ends the rounds, and adds the text at SI.
#define LAST_OF_FOUR \
	VAESENCLAST Z30, Z0, Z0; \
	VAESENCLAST Z30, Z1, Z1; \
	VAESENCLAST Z30, Z2, Z2; \
	VAESENCLAST Z30, Z3, Z3; \
	VPXORD      0x00(SI), Z0, Z0; \
	VPXORD      0x40(SI), Z1, Z1; \
	VPXORD      0x80(SI), Z2, Z2; \
	VPXORD      0xc0(SI), Z3, Z3

#define STORE_FOUR \
	VMOVDQU64 Z0, 0x00(DI); \
	VMOVDQU64 Z1, 0x40(DI); \
	VMOVDQU64 Z2, 0x80(DI); \
	VMOVDQU64 Z3, 0xc0(DI)

// Overwrites what registers hold of a key: compiled code uses none of these, so that they would keep it.
#define FORGET \
	VPXORD Z16, Z16, Z16; \
	VPXORD Z17, Z17, Z17; \
	VPXORD Z18, Z18, Z18; \
	VPXORD Z19, Z19, Z19; \
	VPXORD Z20, Z20, Z20; \
	VPXORD Z21, Z21, Z21; \
	VPXORD Z22, Z22, Z22; \
	VPXORD Z23, Z23, Z23; \
	VPXORD Z24, Z24, Z24; \
	VPXORD Z25, Z25, Z25; \
	VPXORD Z26, Z26, Z26; \
	VPXORD Z27, Z27, Z27; \
	VPXORD Z28, Z28, Z28; \
	VPXORD Z29, Z29, Z29; \
	VPXORD Z30, Z30, Z30; \
	VPXORD Z31, Z31, Z31; \
	VZEROALL

// func crypt(v *vector, dst, src, rest *byte, n int, m *message, tag *[16]byte, open uint64)
TEXT ·crypt(SB), NOSPLIT, $0-64
	MOVQ v+0(FP), AX
	MOVQ dst+8(FP), DI
	MOVQ src+16(FP), SI
	MOVQ n+32(FP), CX
	MOVQ m+40(FP), BX
	MOVQ open+56(FP), R9
	MOVQ LONG(AX), R8
	LOAD_KEYS
	VBROADCASTI32X4 reverse<>(SB), Z11
	VBROADCASTI32X4 polynomial<>(SB), Z10
	VBROADCASTI32X4 ahead<>+48(SB), Z13
	VBROADCASTI32X4 0(BX), Z12
	VMOVDQA64 Z12, Z0
	VPSHUFB Z11, Z12, Z12
	VPADDD  ahead<>(SB), Z12, Z12

	// E(J0)
	VPXORD Z16, Z0, Z0
	SHORT_ROUNDS(ROUND_OF_ONE)
	TESTQ  R8, R8
	JZ     maskLast
	LONG_ROUNDS(ROUND_OF_ONE)

maskLast:
	VAESENCLAST Z30, Z0, Z31

	// the additional data
	VMOVDQU 16(BX), X0
	VPSHUFB X11, X0, X0
	VPXOR   X9, X9, X9
	GHASH_BLOCK

	CMPQ  CX, $256
	JB    rest
	TESTQ R9, R9
	JNZ   openSixteen

sealSixteen:
	COUNTERS_OF_FOUR
	TESTQ R8, R8
	JZ    sealLast
	LONG_ROUNDS(ROUND_OF_FOUR)

sealLast:
	LAST_OF_FOUR
	STORE_FOUR
	GHASH_SIXTEEN
	ADDQ $256, SI
	ADDQ $256, DI
	SUBQ $256, CX
	CMPQ CX, $256
	JAE  sealSixteen
	JMP  rest

openSixteen:
	VMOVDQU64 0x00(SI), Z0
	VMOVDQU64 0x40(SI), Z1
	VMOVDQU64 0x80(SI), Z2
	VMOVDQU64 0xc0(SI), Z3
	GHASH_SIXTEEN
	COUNTERS_OF_FOUR
	TESTQ R8, R8
	JZ    openLast
	LONG_ROUNDS(ROUND_OF_FOUR)

openLast:
	LAST_OF_FOUR
	STORE_FOUR
	ADDQ $256, SI
	ADDQ $256, DI
	SUBQ $256, CX
	CMPQ CX, $256
	JAE  openSixteen

rest:
	TESTQ CX, CX
	JZ    sizes
	MOVQ  rest+24(FP), SI

	// DX: the power of the first block that is left, so that the last one has H.
	LEAQ 15(CX), DX
	SHRQ $4, DX
	SHLQ $4, DX
	NEGQ DX
	LEAQ (POWERS+0x100)(AX)(DX*1), DX
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	VPXORD Z6, Z6, Z6

restFour:
	// K1: the bytes of this vector that there are.
	MOVQ  $-1, R10
	BZHIQ CX, R10, R10
	KMOVQ R10, K1
	VMOVDQU8.Z (SI), K1, Z1
	COUNTERS(Z0)
	SHORT_ROUNDS(ROUND_OF_ONE)
	TESTQ R8, R8
	JZ    restLast
	LONG_ROUNDS(ROUND_OF_ONE)

restLast:
	VAESENCLAST Z30, Z0, Z0
	VPXORD   Z1, Z0, Z0
	VMOVDQU8 Z0, K1, (DI)
	TESTQ    R9, R9
	JNZ      restHash
	VMOVDQU8.Z Z0, K1, Z1

restHash:
	VPSHUFB Z11, Z1, Z1
	VPXORD  Z9, Z1, Z1
	VPXOR   X9, X9, X9
	MULTIPLY_ADD((DX), Z1)
	ADDQ $64, DX
	ADDQ $64, SI
	ADDQ $64, DI
	SUBQ $64, CX
	JA   restFour
	REDUCE
	FOLD

sizes:
	VMOVDQU 32(BX), X0
	VPSHUFB X11, X0, X0
	GHASH_BLOCK
	VPSHUFB X11, X9, X9
	VPXORD  X31, X9, X9
	MOVQ    tag+48(FP), DX
	VMOVDQU X9, (DX)
	FORGET
	RET

// func multiply(dst, a, b *[16]byte)
TEXT ·multiply(SB), NOSPLIT, $0-24
	MOVQ    dst+0(FP), DI
	MOVQ    a+8(FP), SI
	MOVQ    b+16(FP), DX
	VMOVDQU polynomial<>(SB), X10
	VMOVDQU (SI), X0
	VMOVDQU (DX), X1
	MULTIPLY(Z1, Z0)
	REDUCE
	VMOVDQU X6, (DI)
	FORGET
	RET

// func encryptBlock(v *vector, dst, src *[16]byte)
TEXT ·encryptBlock(SB), NOSPLIT, $0-24
	MOVQ    v+0(FP), AX
	MOVQ    dst+8(FP), DI
	MOVQ    src+16(FP), SI
	LOAD_KEYS
	VMOVDQU (SI), X0
	VPXORD  Z16, Z0, Z0
	SHORT_ROUNDS(ROUND_OF_ONE)
	CMPQ    LONG(AX), $0
	JE      last
	LONG_ROUNDS(ROUND_OF_ONE)

last:
	VAESENCLAST X30, X0, X0
	VMOVDQU     X0, (DI)
	FORGET
	RET

// func substitute(w uint32) uint32
TEXT ·substitute(SB), NOSPLIT, $0-12
	// With four equal columns, AES's last round moves nothing that differs.
	MOVL       w+0(FP), AX
	MOVQ       AX, X0
	PSHUFD     $0, X0, X0
	PXOR       X1, X1
	AESENCLAST X1, X0
	MOVQ       X0, AX
	MOVL       AX, ret+8(FP)
	RET
