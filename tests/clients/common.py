"""What the programs share: a librdkafka client's way to its server; the sum over records, and its printed form."""
import hashlib
import os
import struct


def librdkafka(bootstrap):
    """Settings that lead to BOOTSTRAP, with the login of the environment if there is one."""
    settings = {"bootstrap.servers": bootstrap}
    if "KAFKA_USER" in os.environ:
        settings |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": os.environ["KAFKA_USER"],
            "sasl.password": os.environ["KAFKA_PASSWORD"],
            "ssl.ca.location": os.environ["KAFKA_CA"],
        }
    return settings


class Sum:
    def __init__(self):
        self.sha = hashlib.sha256()
        self.records = 0

    def add(self, partition, offset, timestamp, key, value, headers):
        self.records += 1
        self.sha.update(struct.pack(">iqq", partition, offset, timestamp))
        self._field(key)
        self._field(value)
        self.sha.update(struct.pack(">i", len(headers)))
        for name, content in headers:
            self._field(name.encode())
            self._field(content)

    def _field(self, content):
        self.sha.update(struct.pack(">i", -1 if content is None else len(content)))
        if content is not None:
            self.sha.update(content)


def show(sums):
    for (topic, partition), s in sorted(sums.items()):
        print(topic, partition, s.records, s.sha.hexdigest(), sep="\t")
