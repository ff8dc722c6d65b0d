"""What the digest programs share: the sum over records, and its printed form."""
import hashlib
import struct


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
