"""produce_librdkafka.py BOOTSTRAP TOPIC COUNT RATE: an idempotent producer, whose records have the values 0, 1, …, about RATE
of them a second. Ends with 0 when all were acknowledged."""
import sys
import time

from confluent_kafka import Producer

from common import librdkafka

bootstrap, topic, count, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
# Small batches, several in flight: what a lost answer makes a producer send twice, or out of order.
producer = Producer(librdkafka(bootstrap) | {
    "enable.idempotence": True,
    "linger.ms": 0,
    "batch.num.messages": 20,
    "reconnect.backoff.max.ms": 200,
})
acknowledged = 0


def delivered(error, _):
    global acknowledged
    if error is not None:
        sys.exit(f"not delivered: {error}")
    acknowledged += 1


begun = time.monotonic()
for number in range(count):
    producer.produce(topic, value=str(number), partition=0, on_delivery=delivered)
    producer.poll(max(0.0, begun + number / rate - time.monotonic()))
left = producer.flush(120)
if left or acknowledged != count:
    sys.exit(f"{acknowledged} of {count} acknowledged, {left} left")
