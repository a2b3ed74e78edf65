/*
 * Structure-aware mutation of one side of an HTTP/2 connection: the input is a
 * list of frames, some of them with HPACK, gRPC messages and protobuf inside.
 * Frames and fields are inserted, removed, doubled, moved, cut and altered with
 * their lengths kept right; now and then bytes are mutated without any sense.
 */
#ifndef TUNN_FUZZ_FRAMES_H
#define TUNN_FUZZ_FRAMES_H

#include <stddef.h>
#include <stdint.h>

enum frames_side { FRAMES_OF_CLIENT, FRAMES_OF_SERVER };

size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t cap); /* libFuzzer's, or that of main.c */

/* As LLVMFuzzerCustomMutator. */
size_t frames_mutate(enum frames_side, uint8_t *data, size_t len, size_t cap, unsigned seed);
/* As LLVMFuzzerCustomCrossOver: frames of both, each in its order. */
size_t frames_cross(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t *out,
                    size_t cap, unsigned seed);

#endif
