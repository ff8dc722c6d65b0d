"""transact_librdkafka.py BOOTSTRAP: begins as a transactional producer, and prints how that is refused: the error's name,
whether it is fatal, and its words."""
import sys

from confluent_kafka import KafkaException, Producer

from common import librdkafka

producer = Producer(librdkafka(sys.argv[1]) | {"transactional.id": "orders-writer"})
try:
    # Far longer than an answer takes, so that an error without one shows as what it is, a time-out.
    producer.init_transactions(60)
except KafkaException as refusal:
    error = refusal.args[0]
    print(error.name(), error.fatal(), error.str(), sep="\t")
else:
    sys.exit("not refused")
