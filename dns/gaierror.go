package dns

import (
	"context"
	"errors"
)

// GAIError is an error of getaddrinfo(3) or getnameinfo(3), as glibc numbers them
// (netdb.h).
type GAIError int

// The errors of getaddrinfo(3).
const (
	EAI_BADFLAGS   GAIError = -1
	EAI_NONAME     GAIError = -2
	EAI_AGAIN      GAIError = -3
	EAI_FAIL       GAIError = -4
	EAI_NODATA     GAIError = -5
	EAI_FAMILY     GAIError = -6
	EAI_SOCKTYPE   GAIError = -7
	EAI_SERVICE    GAIError = -8
	EAI_ADDRFAMILY GAIError = -9
	EAI_MEMORY     GAIError = -10
	EAI_SYSTEM     GAIError = -11
	EAI_OVERFLOW   GAIError = -12
)

// gaiTexts are gai_strerror(3)'s, in glibc.
var gaiTexts = map[GAIError]string{
	EAI_BADFLAGS:   "Bad value for ai_flags",
	EAI_NONAME:     "Name or service not known",
	EAI_AGAIN:      "Temporary failure in name resolution",
	EAI_FAIL:       "Non-recoverable failure in name resolution",
	EAI_NODATA:     "No address associated with hostname",
	EAI_FAMILY:     "ai_family not supported",
	EAI_SOCKTYPE:   "ai_socktype not supported",
	EAI_SERVICE:    "Servname not supported for ai_socktype",
	EAI_ADDRFAMILY: "Address family for hostname not supported",
	EAI_MEMORY:     "Memory allocation failure",
	EAI_SYSTEM:     "System error",
	EAI_OVERFLOW:   "Result too large for supplied buffer",
}

// Error implements error, with glibc's text.
func (e GAIError) Error() string {
	if text, known := gaiTexts[e]; known {
		return text
	}
	return "Unknown error"
}

// gaiError makes of a lookup's error what libc says in its place. A context's error stays.
func gaiError(err error) error {
	var already GAIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &already):
		return already
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrClosed):
		return err
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrName):
		return EAI_NONAME
	case errors.Is(err, ErrNoData):
		return EAI_NODATA
	}
	return EAI_AGAIN
}
