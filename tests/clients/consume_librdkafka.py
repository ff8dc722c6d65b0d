"""consume_librdkafka.py BOOTSTRAP: the only member, one after the other, of each group that a line of the input names as
GROUP, PROTOCOL and a TOPIC=STOP,STOP,... for each topic, by partition. It goes on from what the group committed, reads every
partition up to its stop (the first offset not to be read), commits what it read and leaves. Prints the group before every
run of consecutive offsets, a partition's in the order read: GROUP, TOPIC, PARTITION, FIRST, NEXT."""
import sys
import time

from confluent_kafka import Consumer

from common import librdkafka

settings = librdkafka(sys.argv[1]) | {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
}
IDLE_S = 60


def consume(group, protocol, stops):
    own = {"group.id": group}
    # Releases before 2.4 know one protocol and no setting for it.
    if protocol != "classic":
        own["group.protocol"] = protocol
    consumer = Consumer(settings | own)
    unread, runs = set(stops), {}

    def assigned(_, partitions):
        for p in consumer.committed(partitions, timeout=IDLE_S):
            if max(p.offset, 0) >= stops[p.topic, p.partition]:
                unread.discard((p.topic, p.partition))

    consumer.subscribe(sorted({topic for topic, _ in stops}), on_assign=assigned)
    deadline = time.monotonic() + IDLE_S
    while unread:
        messages = consumer.consume(500, 0.2)
        for message in messages:
            if message.error():
                sys.exit(f"{group}: {message.error()}")
            key, offset = (message.topic(), message.partition()), message.offset()
            if offset >= stops[key]:
                continue
            read = runs.setdefault(key, [])
            if not read or read[-1][1] != offset:
                read.append([offset, offset])
            read[-1][1] = offset + 1
            consumer.store_offsets(message)
            if offset + 1 == stops[key]:
                unread.discard(key)
            deadline = time.monotonic() + IDLE_S
        if time.monotonic() > deadline:
            sys.exit(f"{group}: nothing more to read of {unread} below {stops}")
    for p in consumer.commit(asynchronous=False) if runs else []:
        if p.error:
            sys.exit(f"{group}: {p}")
    consumer.close()
    for (topic, partition), read in runs.items():
        for first, following in read:
            print(group, topic, partition, first, following, sep="\t")


for line in sys.stdin:
    group, protocol, *topics = line.rstrip("\n").split("\t")
    stops = {}
    for topic in topics:
        name, offsets = topic.split("=")
        stops |= {(name, partition): int(stop) for partition, stop in enumerate(offsets.split(","))}
    consume(group, protocol, stops)
