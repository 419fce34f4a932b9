// SPDX-License-Identifier: Apache-2.0
//
// irqfd and ioeventfd: the two ends of the data path that need no exit to user space. And the
// routing table between them and the interrupt chips, which KVM only takes as a whole.
#include "core/irq.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int irqfd(const struct vn_irq *irq, uint32_t flags)
{
	struct kvm_irqfd request = {.fd = (uint32_t)irq->fd, .gsi = irq->gsi, .flags = flags};
	return vn_kvm_ioctl(irq->kvm->vm_fd, KVM_IRQFD, &request);
}

int vn_irq_open(
	struct vn_irq *irq, const struct vn_kvm *kvm, uint32_t gsi, struct veneer_error *error)
{
	*irq = (struct vn_irq){.kvm = kvm, .gsi = gsi};
	irq->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (irq->fd < 0)
		return vn_fail(
			error, -errno, "no eventfd for interrupt %u: %s", gsi, strerror(errno));
	if (!kvm)
		return 0;
	int code = irqfd(irq, 0);
	if (code < 0) {
		close(irq->fd);
		irq->fd = -1;
		return vn_fail(error, code, "KVM_IRQFD for interrupt %u: %s", gsi, strerror(-code));
	}
	return 0;
}

void vn_irq_close(struct vn_irq *irq)
{
	if (irq->fd < 0)
		return;
	if (irq->kvm)
		irqfd(irq, KVM_IRQFD_FLAG_DEASSIGN);
	close(irq->fd);
	irq->fd = -1;
}

void vn_irq_raise(const struct vn_irq *irq)
{
	// Fails only when the counter is full (EAGAIN), and then the interrupt is pending anyway.
	uint64_t one = 1;
	ssize_t written = write(irq->fd, &one, sizeof(one));
	(void)written;
}

void vn_line_set(const struct vn_kvm *kvm, uint32_t gsi, bool up)
{
	// Fails only where there are no interrupt chips.
	struct kvm_irq_level level = {.irq = gsi, .level = up};
	if (kvm)
		(void)vn_kvm_ioctl(kvm->vm_fd, KVM_IRQ_LINE, &level);
}

#define PIC_PINS     8 // of each of the two
#define IOAPIC_PINS  24
#define FIXED_ROUTES (2 * PIC_PINS + IOAPIC_PINS)
#define MESSAGE_GSI  IOAPIC_PINS // the first GSI that is a message
#define MESSAGES_MAX 2048
#define GROW_BY      32 // messages

// A GSI that carries a message.
struct message {
	bool used;
	bool routed; // address and data are known, and none that KVM has refused
	uint64_t address;
	uint32_t data;
};

// Everything under the lock. The table is built anew whenever KVM is to know it.
struct vn_irqs {
	const struct vn_kvm *kvm;
	pthread_mutex_t lock;
	struct message *messages;
	uint32_t count; // of them; most guests need a few of the GSIs that may be messages
	bool changed; // since KVM saw them
	struct kvm_irq_routing *table; // with room for all
};

static void add_pin(struct kvm_irq_routing *table, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin},
	};
}

static void add_message(struct kvm_irq_routing *table, uint32_t gsi, const struct message *message)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = (uint32_t)message->address,
			.address_hi = (uint32_t)(message->address >> 32),
			.data = message->data},
	};
}

// Give KVM the whole table.
static int commit(struct vn_irqs *irqs)
{
	struct kvm_irq_routing *table = irqs->table;
	table->nr = 0;
	table->flags = 0;
	for (uint32_t i = 0; i < 2 * PIC_PINS; i++)
		add_pin(table, i, i < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
			i % PIC_PINS);
	for (uint32_t i = 0; i < IOAPIC_PINS; i++)
		add_pin(table, i, KVM_IRQCHIP_IOAPIC, i);
	for (uint32_t i = 0; i < irqs->count; i++)
		if (irqs->messages[i].routed)
			add_message(table, MESSAGE_GSI + i, &irqs->messages[i]);
	int code = irqs->kvm ? vn_kvm_ioctl(irqs->kvm->vm_fd, KVM_SET_GSI_ROUTING, table) : 0;
	if (code == 0)
		irqs->changed = false;
	return code;
}

// Make room for so many messages, or as many as there are now if there is no memory.
static int make_room(struct vn_irqs *irqs, uint32_t count)
{
	struct kvm_irq_routing *table = irqs->table;
	struct message *messages = irqs->messages;
	table = realloc(table, sizeof(*table) + (FIXED_ROUTES + count) * sizeof(table->entries[0]));
	if (!table)
		return -ENOMEM;
	irqs->table = table;
	messages = reallocarray(messages, count, sizeof(*messages));
	if (!messages)
		return -ENOMEM;
	irqs->messages = messages;
	memset(messages + irqs->count, 0, (count - irqs->count) * sizeof(*messages));
	irqs->count = count;
	return 0;
}

int vn_irqs_create(struct vn_irqs **result, const struct vn_kvm *kvm, struct veneer_error *error)
{
	int most = kvm ? vn_kvm_capability(kvm, KVM_CAP_IRQ_ROUTING) : INT32_MAX;
	if (most < MESSAGE_GSI + MESSAGES_MAX)
		return vn_fail(error, -ENOSYS, "this host's KVM routes %d interrupts: %d needed",
			most, MESSAGE_GSI + MESSAGES_MAX);
	struct vn_irqs *irqs = calloc(1, sizeof(*irqs));
	if (!irqs)
		return vn_fail(error, -ENOMEM, "no memory for the interrupt routing table");
	irqs->kvm = kvm;
	pthread_mutex_init(&irqs->lock, NULL);
	int code = make_room(irqs, GROW_BY);
	if (code < 0)
		vn_fail(error, code, "no memory for the interrupt routing table");
	if (code == 0 && (code = commit(irqs)) < 0)
		vn_fail(error, code, "KVM_SET_GSI_ROUTING: %s", strerror(-code));
	if (code < 0) {
		vn_irqs_destroy(irqs);
		return code;
	}
	*result = irqs;
	return 0;
}

void vn_irqs_destroy(struct vn_irqs *irqs)
{
	pthread_mutex_destroy(&irqs->lock);
	free(irqs->messages);
	free(irqs->table);
	free(irqs);
}

static struct message *message_of(const struct vn_msi *msi)
{
	return &msi->irqs->messages[msi->irq.gsi - MESSAGE_GSI];
}

// The first message that is free, or a negative errno.
static int find_free(struct vn_irqs *irqs)
{
	uint32_t i = 0;
	while (i < irqs->count && irqs->messages[i].used)
		i++;
	if (i == MESSAGES_MAX)
		return -ENOSPC;
	int code = i == irqs->count ? make_room(irqs, irqs->count + GROW_BY) : 0;
	return code < 0 ? code : (int)i;
}

// A GSI for a message, or a negative errno.
static int take_gsi(struct vn_irqs *irqs)
{
	pthread_mutex_lock(&irqs->lock);
	int found = find_free(irqs);
	if (found >= 0)
		irqs->messages[found] = (struct message){.used = true};
	pthread_mutex_unlock(&irqs->lock);
	return found < 0 ? found : MESSAGE_GSI + found;
}

int vn_msi_open(struct vn_msi *msi, struct vn_irqs *irqs, struct veneer_error *error)
{
	*msi = (struct vn_msi){.irq = {.kvm = irqs->kvm, .fd = -1}, .irqs = irqs, .masked = true};
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return vn_fail(error, -errno, "no eventfd for an MSI: %s", strerror(errno));
	int gsi = take_gsi(irqs);
	if (gsi < 0) {
		close(fd);
		return gsi == -ENOSPC ? vn_fail(error, gsi, "all %d message interrupts are taken",
						MESSAGES_MAX)
				      : vn_fail(error, gsi, "no memory for an MSI");
	}
	msi->irq.gsi = (uint32_t)gsi;
	msi->irq.fd = fd;
	return 0;
}

void vn_msi_close(struct vn_msi *msi)
{
	if (msi->irq.fd < 0)
		return;
	vn_msi_mask(msi);
	pthread_mutex_lock(&msi->irqs->lock);
	msi->irqs->changed |= message_of(msi)->routed;
	*message_of(msi) = (struct message){.used = false};
	pthread_mutex_unlock(&msi->irqs->lock);
	close(msi->irq.fd);
	msi->irq.fd = -1;
}

// One vector's message that KVM refuses must not stand in the way of the others'.
static int commit_for(struct vn_msi *msi)
{
	int code = commit(msi->irqs);
	if (code < 0)
		message_of(msi)->routed = false;
	return code;
}

int vn_msi_set(struct vn_msi *msi, uint64_t address, uint32_t data)
{
	struct vn_irqs *irqs = msi->irqs;
	int code = 0;
	pthread_mutex_lock(&irqs->lock);
	struct message *message = message_of(msi);
	if (!message->routed || message->address != address || message->data != data) {
		*message = (struct message){true, true, address, data};
		irqs->changed = true;
	}
	if (!msi->masked && irqs->changed)
		code = commit_for(msi);
	pthread_mutex_unlock(&irqs->lock);
	return code;
}

// KVM takes what is in the counter with the eventfd's lock held, when it is written: so each
// raising is either delivered before this returns, or stays in the counter.
int vn_msi_mask(struct vn_msi *msi)
{
	int code = 0;
	if (!msi->masked && msi->irq.kvm)
		code = irqfd(&msi->irq, KVM_IRQFD_FLAG_DEASSIGN);
	if (code == 0)
		msi->masked = true;
	return code;
}

// KVM delivers what it finds in the counter when the eventfd is attached.
int vn_msi_unmask(struct vn_msi *msi)
{
	if (!msi->masked)
		return 0;
	struct vn_irqs *irqs = msi->irqs;
	pthread_mutex_lock(&irqs->lock);
	int code = irqs->changed ? commit_for(msi) : 0;
	pthread_mutex_unlock(&irqs->lock);
	if (code == 0 && msi->irq.kvm)
		code = irqfd(&msi->irq, 0);
	if (code == 0)
		msi->masked = false;
	return code;
}

int vn_msi_reset(struct vn_msi *msi)
{
	uint64_t count;
	int code = vn_msi_mask(msi);
	if (code < 0)
		return code;
	ssize_t got = read(msi->irq.fd, &count, sizeof(count));
	(void)got; // EAGAIN: nothing was pending
	return 0;
}

bool vn_msi_is_pending(const struct vn_msi *msi)
{
	struct pollfd counter = {.fd = msi->irq.fd, .events = POLLIN};
	return msi->masked && poll(&counter, 1, 0) == 1;
}

static int ioeventfd(const struct vn_kvm *kvm, const struct kvm_ioeventfd *request)
{
	struct kvm_ioeventfd copy = *request;
	return kvm ? vn_kvm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &copy) : 0;
}

static int add_ioeventfd(
	const struct vn_kvm *kvm, const struct kvm_ioeventfd *request, struct veneer_error *error)
{
	int code = ioeventfd(kvm, request);
	if (code < 0)
		return vn_fail(error, code, "KVM_IOEVENTFD at 0x%llx: %s",
			(unsigned long long)request->addr, strerror(-code));
	return 0;
}

static struct kvm_ioeventfd matching(vn_gpa gpa, uint32_t value, int fd, uint32_t flags)
{
	return (struct kvm_ioeventfd){.datamatch = value,
		.addr = gpa.addr,
		.len = 4,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags};
}

int vn_ioeventfd_add(
	const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd, struct veneer_error *error)
{
	struct kvm_ioeventfd request = matching(gpa, value, fd, 0);
	return add_ioeventfd(kvm, &request, error);
}

void vn_ioeventfd_remove(const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd)
{
	struct kvm_ioeventfd request = matching(gpa, value, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
	ioeventfd(kvm, &request);
}

// A length of 0 is any length, which Intel hosts find without decoding the instruction.
int vn_ioeventfd_add_any(const struct vn_kvm *kvm, vn_gpa gpa, int fd, struct veneer_error *error)
{
	struct kvm_ioeventfd request = {.addr = gpa.addr, .fd = fd};
	return add_ioeventfd(kvm, &request, error);
}

void vn_ioeventfd_remove_any(const struct vn_kvm *kvm, vn_gpa gpa, int fd)
{
	struct kvm_ioeventfd request = {
		.addr = gpa.addr, .fd = fd, .flags = KVM_IOEVENTFD_FLAG_DEASSIGN};
	ioeventfd(kvm, &request);
}
