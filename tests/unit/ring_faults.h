// SPDX-License-Identifier: Apache-2.0
//
// What io_uring answers on the threads of one name, in place of the kernel. The program is linked
// with `ring_faults` of meson.build, so that the library calls these functions.
#ifndef VN_RING_FAULTS_H
#define VN_RING_FAULTS_H

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum ring_fault {
	RING_WORKS,
	RING_REFUSES, // every submission
	RING_LOSES, // the first completion that there is, and says so as the kernel does
};

static atomic_int ring_fault;
static const char *ring_fault_thread; // set before the fault

int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait);
unsigned __real_io_uring_peek_batch_cqe(
	struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count);
unsigned __wrap_io_uring_peek_batch_cqe(
	struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count);

static bool ring_has_fault(enum ring_fault fault)
{
	char name[16];
	return atomic_load(&ring_fault) == (int)fault &&
	       pthread_getname_np(pthread_self(), name, sizeof(name)) == 0 &&
	       strcmp(name, ring_fault_thread) == 0;
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned wait)
{
	return ring_has_fault(RING_REFUSES) ? -EBADF : __real_io_uring_submit_and_wait(ring, wait);
}

// A completion that the kernel loses was never in the ring, but the one here was. A request without
// a completion makes up for it.
static void count_one_more(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	if (!sqe)
		abort();
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
	io_uring_submit(ring);
}

unsigned __wrap_io_uring_peek_batch_cqe(
	struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count)
{
	unsigned found = __real_io_uring_peek_batch_cqe(ring, cqes, count);
	if (found == 0 || !ring_has_fault(RING_LOSES))
		return found;
	atomic_store(&ring_fault, RING_WORKS);
	memmove(cqes, cqes + 1, (found - 1) * sizeof(struct io_uring_cqe *));
	io_uring_cq_advance(ring, 1);
	++*ring->cq.koverflow;
	count_one_more(ring);
	return found - 1;
}

#endif
