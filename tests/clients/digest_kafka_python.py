"""digest_kafka_python.py BOOTSTRAP ISOLATION TOPIC...: what kafka-python reads, summed up per partition."""
import os
import sys
import time

from kafka import KafkaConsumer, TopicPartition

from common import Sum, show

bootstrap, isolation, topics = sys.argv[1], sys.argv[2], sys.argv[3:]
settings = {}
if "KAFKA_USER" in os.environ:
    settings = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": os.environ["KAFKA_USER"],
        "sasl_plain_password": os.environ["KAFKA_PASSWORD"],
        "ssl_cafile": os.environ["KAFKA_CA"],
    }
consumer = KafkaConsumer(
    bootstrap_servers=bootstrap.split(","),
    isolation_level=isolation,
    enable_auto_commit=False,
    auto_offset_reset="none",
    max_partition_fetch_bytes=16777216,
    check_crcs=True,
    **settings,
)
partitions = [TopicPartition(t, p) for t in topics for p in consumer.partitions_for_topic(t)]
sums = {(p.topic, p.partition): Sum() for p in partitions}
consumer.assign(partitions)
consumer.seek_to_beginning(*partitions)
ends = consumer.end_offsets(partitions)
deadline = time.monotonic() + 60
while any(consumer.position(p) < ends[p] for p in partitions):
    polled = consumer.poll(timeout_ms=500)
    if polled:
        deadline = time.monotonic() + 60
    elif time.monotonic() > deadline:
        sys.exit(f"nothing more to read below {ends}")
    for p, records in polled.items():
        for r in records:
            if r.offset < ends[p]:
                sums[p.topic, p.partition].add(r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
consumer.close()
show(sums)
