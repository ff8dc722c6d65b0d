"""group_librdkafka.py BOOTSTRAP GROUP TOPIC: a member of the consumer protocol, until SIGTERM. Says `read P O` for every
record and `committed P O` for every commit that was acknowledged."""
import signal
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException

from common import librdkafka

bootstrap, group, topic = sys.argv[1:]
stopping = False


def stop(*_):
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)
settings = librdkafka(bootstrap) | {
    "group.id": group,
    "group.protocol": "consumer",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
}
# Whose answer was lost to a rebalance commits again after it, or somebody else reads the records again.
LATER = {KafkaError.STALE_MEMBER_EPOCH, KafkaError._NO_OFFSET, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_MEMBER_EPOCH}
consumer = Consumer(settings)


def commit(offsets=None):
    try:
        for done in consumer.commit(offsets=offsets, asynchronous=False) or []:
            if done.error is None and done.offset >= 0:
                print("committed", done.partition, done.offset, flush=True)
    except KafkaException as error:
        if error.args[0].code() not in LATER:
            raise


def revoked(_, __):
    commit()


consumer.subscribe([topic], on_revoke=revoked)
while not stopping:
    messages = consumer.consume(50, 0.5)
    for message in messages:
        if message.error():
            print("error", message.error(), file=sys.stderr, flush=True)
            continue
        print("read", message.partition(), message.offset(), flush=True)
        consumer.store_offsets(message)
    if messages:
        commit()
consumer.close()
print("closed", flush=True)
