"""digest_librdkafka.py BOOTSTRAP ISOLATION TOPIC...: what librdkafka reads, summed up per partition."""
import sys
import time

from confluent_kafka import Consumer, TopicPartition, KafkaError

from common import Sum, librdkafka, show

bootstrap, isolation, topics = sys.argv[1], sys.argv[2], sys.argv[3:]
settings = librdkafka(bootstrap) | {
    "group.id": "digest",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": isolation,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "fetch.message.max.bytes": 16777216,
    "check.crcs": True,
}
consumer = Consumer(settings)
sums = {}
for topic in topics:
    for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
        sums[topic, partition] = Sum()
starts = []
for topic, partition in sums:
    low, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
    starts.append(TopicPartition(topic, partition, low))
consumer.assign(starts)
unread = set(sums)
deadline = time.monotonic() + 60
while unread:
    message = consumer.poll(1)
    if time.monotonic() > deadline:
        sys.exit(f"nothing more to read of {unread}")
    if message is None:
        continue
    if message.error():
        if message.error().code() != KafkaError._PARTITION_EOF:
            sys.exit(str(message.error()))
        unread.discard((message.topic(), message.partition()))
        continue
    deadline = time.monotonic() + 60
    sums[message.topic(), message.partition()].add(
        message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(), message.headers() or []
    )
consumer.close()
show(sums)
