package main

/*
#include "private.h"
*/
import "C"

import (
	"encoding/binary"
	"errors"

	"kloop/dns"
)

// success is the beginning of an answer that is a value.
func success() value {
	return binary.NativeEndian.AppendUint32(make([]byte, 0, 128), C.KLOOP_ANSWER_OK)
}

func failureOf(err error) []byte {
	var code dns.GAIError
	if errors.As(err, &code) {
		packed := binary.NativeEndian.AppendUint32(nil, C.KLOOP_ANSWER_GAI)
		packed = binary.NativeEndian.AppendUint32(packed, uint32(int32(code)))
		return append(packed, code.Error()...)
	}
	return append(binary.NativeEndian.AppendUint32(nil, statusOf(err)), err.Error()...)
}

// addrInfoSize is the size of struct kloop_addrinfo in bytes.
const addrInfoSize = C.sizeof_struct_kloop_addrinfo

func packAddrInfos(infos []dns.AddrInfo) []byte {
	canonical := ""
	if len(infos) > 0 {
		canonical = infos[0].CanonName
	}
	packed := make([]byte, 0, 12+len(canonical)+addrInfoSize*len(infos))
	packed = binary.NativeEndian.AppendUint32(packed, C.KLOOP_ANSWER_OK)
	packed = binary.NativeEndian.AppendUint32(packed, uint32(len(canonical)))
	packed = append(packed, canonical...)
	packed = binary.NativeEndian.AppendUint32(packed, uint32(len(infos)))
	for _, info := range infos {
		ip := info.Addr.Addr()
		var address [16]byte
		if ip.Is4() {
			four := ip.As4()
			copy(address[:], four[:])
		} else {
			address = ip.As16()
		}
		for _, n := range [...]uint32{uint32(info.Family), uint32(info.SockType), uint32(info.Protocol),
			uint32(info.Addr.Port()), info.ScopeID} {
			packed = binary.NativeEndian.AppendUint32(packed, n)
		}
		packed = append(packed, address[:]...)
	}
	return packed
}
