package main

/*
#include "private.h"
*/
import "C"

import (
	"encoding/binary"
	"math"
)

// value is what is told to the host in the form of kloop.h's KLOOP_VALUE_. It is appended to.
type value []byte

func (v *value) none() { *v = append(*v, C.KLOOP_VALUE_NONE) }

func (v *value) bool(b bool) {
	kind := byte(C.KLOOP_VALUE_FALSE)
	if b {
		kind = C.KLOOP_VALUE_TRUE
	}
	*v = append(*v, kind)
}

func (v *value) int(n int64) {
	*v = binary.NativeEndian.AppendUint64(append(*v, C.KLOOP_VALUE_INT), uint64(n))
}

func (v *value) float(f float64) {
	*v = binary.NativeEndian.AppendUint64(append(*v, C.KLOOP_VALUE_FLOAT), math.Float64bits(f))
}

func (v *value) sized(kind byte, s string) {
	*v = append(binary.NativeEndian.AppendUint32(append(*v, kind), uint32(len(s))), s...)
}

func (v *value) text(s string)  { v.sized(C.KLOOP_VALUE_TEXT, s) }
func (v *value) bytes(p string) { v.sized(C.KLOOP_VALUE_BYTES, p) }

// list begins a list of n values, which follow.
func (v *value) list(n int) {
	*v = binary.NativeEndian.AppendUint32(append(*v, C.KLOOP_VALUE_LIST), uint32(n))
}

func (v *value) texts(all []string) {
	v.list(len(all))
	for _, s := range all {
		v.text(s)
	}
}
