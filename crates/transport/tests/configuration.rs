//! What properties can say wrong, and that all of it is said at once, by key and line and without a secret.
#![allow(missing_docs)]

mod support;

use hawser_link::Properties;
use hawser_transport::{ClientSecurity, SecurityProtocol, ServerSecurity};
use support::Authority;

fn client_errors(text: &str) -> String {
    ClientSecurity::from_properties(&Properties::parse("link.properties", text)).unwrap_err().to_string()
}

fn server_errors(protocol: SecurityProtocol, text: &str) -> String {
    ServerSecurity::from_properties(&Properties::parse("serve.properties", text), "Front", protocol)
        .unwrap_err()
        .to_string()
}

#[test]
fn all_errors_at_once_with_their_lines() {
    let text = "security.protocol=SASL_SSL\nsasl.mechanism=GSSAPI\nsasl.jaas.config=a.B required x=\"hush\";\n\
                ssl.truststore.location=/nowhere/ca.pem\nssl.enabled.protocols=TLSv1.1\n\
                ssl.endpoint.identification.algorithm=LDAPS\nssl.cipher.suites=TLS_NULL\nssl.provider=X\n\
                send.buffer.bytes=many\nsocket.connection.setup.timeout.ms=0\nssl.keystore.key=hush\n";
    let errors = client_errors(text);
    for part in [
        "link.properties:2: sasl.mechanism: GSSAPI (Kerberos) is not supported",
        "link.properties:4: ssl.truststore.location: cannot read '/nowhere/ca.pem'",
        "link.properties:5: ssl.enabled.protocols: 'TLSv1.1' is none of",
        "link.properties:6: ssl.endpoint.identification.algorithm: 'LDAPS' is neither https nor empty",
        "link.properties:7: ssl.cipher.suites: 'TLS_NULL' is none of TLS_AES_256_GCM_SHA384, ",
        "link.properties:8: ssl.provider: names a Java class",
        "link.properties:9: send.buffer.bytes: 'many' is not a whole number",
        "link.properties:10: socket.connection.setup.timeout.ms: '0' is not a whole number from 1",
        "link.properties: ssl.keystore.certificate.chain: is missing beside ssl.keystore.key",
    ] {
        assert!(errors.contains(part), "{part}\n---\n{errors}");
    }
    assert!(!errors.contains("hush") && errors.lines().count() == 9, "{errors}");
}

#[test]
fn logins_are_checked() {
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    for (more, part) in [
        ("", "link.properties: sasl.mechanism: is not set, and Kafka's default, GSSAPI, is not supported"),
        ("sasl.mechanism=OAUTHBEARER", "OAUTHBEARER is not supported yet"),
        ("sasl.mechanism=plain", "'plain' is none of PLAIN"),
        ("sasl.mechanism=PLAIN", "sasl.jaas.config: is missing: expected"),
        (
            &format!("sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config={plain} username=a password=hush;"),
            "needs org.apache",
        ),
        (&format!("sasl.mechanism=PLAIN\nsasl.jaas.config={plain} username=a;"), "has no option password="),
        (&format!("sasl.mechanism=PLAIN\nsasl.jaas.config={plain} username=a password=hush"), "does not end with ';'"),
    ] {
        let errors = client_errors(&format!("security.protocol=SASL_PLAINTEXT\n{more}"));
        assert!(errors.contains(part) && !errors.contains("hush"), "{more}: {errors}");
    }
    assert!(client_errors("security.protocol=TLS").contains("'TLS' is none of PLAINTEXT, SSL"));
}

#[test]
fn listeners_are_checked() {
    let errors = server_errors(
        SecurityProtocol::SaslSsl,
        "sasl.enabled.mechanisms=PLAIN,GSSAPI,SCRAM-SHA-256\nmax.connections=0\nsocket.request.max.bytes=1\n\
         listener.name.front.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \
         required user_a=\"salt=hush,stored_key=x,server_key=y,iterations=1\";\n\
         listener.name.front.ssl.client.auth=maybe\nssl.principal.mapping.rules=RULE:x\n",
    );
    for part in [
        "serve.properties: listener.name.front.plain.sasl.jaas.config: is missing although PLAIN is enabled",
        "serve.properties:1: sasl.enabled.mechanisms: GSSAPI",
        "serve.properties:2: max.connections: '0'",
        "serve.properties:3: socket.request.max.bytes: '1'",
        "serve.properties:4: listener.name.front.scram-sha-256.sasl.jaas.config: user_a: stored_key is not base64",
        "serve.properties:5: listener.name.front.ssl.client.auth: is none of required",
        "serve.properties:6: ssl.principal.mapping.rules: only DEFAULT",
    ] {
        assert!(errors.contains(part), "{part}\n---\n{errors}");
    }
    assert!(!errors.contains("hush"), "{errors}");
    // What was to be enabled cannot be read: the lines are, all the same.
    for list in ["", "sasl.enabled.mechanisms=PLIAN\n", "sasl.enabled.mechanisms=SCRAM-SHA-256,PLIAN\n"] {
        let line = "listener.name.front.plain.sasl.jaas.config=m.P required user_a=hush\n";
        let errors = server_errors(SecurityProtocol::SaslPlaintext, &format!("{list}{line}"));
        for part in ["sasl.enabled.mechanisms: ", "listener.name.front.plain.sasl.jaas.config: "] {
            assert!(errors.contains(part) && !errors.contains("hush"), "{list}{part}\n---\n{errors}");
        }
    }
    let errors = server_errors(SecurityProtocol::Ssl, "");
    assert!(errors.contains("ssl.keystore.location: a TLS listener needs a key and its certificates"), "{errors}");
}

/// The key of the listener comes before the key of all.
#[test]
fn a_listener_has_keys_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let own = Authority::new(folder.path(), "ca").issue("own.pem", "localhost", false);
    let text = format!(
        "ssl.keystore.type=JKS\nssl.keystore.location=/nowhere\nlistener.name.front.ssl.keystore.type=PEM\n\
         listener.name.front.ssl.keystore.location={own}\n"
    );
    ServerSecurity::from_properties(&Properties::parse("x", &text), "FRONT", SecurityProtocol::Ssl).unwrap();
}

#[test]
fn stores_that_are_not_pem_come_with_the_line_that_converts_them() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new(folder.path(), "ca");
    let binary = folder.path().join("store.jks").display().to_string();
    std::fs::write(&binary, [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]).unwrap();
    let base = binary.trim_end_matches(".jks");
    let errors = client_errors(&format!(
        "security.protocol=SSL\nssl.truststore.location={binary}\nssl.truststore.password=hush\n\
         ssl.keystore.type=PKCS12\nssl.keystore.location={binary}\n"
    ));
    let trust = format!("'keytool -list -rfc -keystore {binary} > {base}.pem', then set ssl.truststore.type=PEM");
    let own = format!(
        "'keytool -importkeystore -srckeystore {binary} -destkeystore {base}.tmp.p12 -deststoretype PKCS12 && openssl \
         pkcs12 -in {base}.tmp.p12 -nodes -out {base}.pem', then set ssl.keystore.type=PEM"
    );
    assert!(errors.contains(&trust) && errors.contains(&own) && !errors.contains("hush"), "{errors}");

    let trust = ca.path("ca");
    let untyped = format!("security.protocol=SSL\nssl.truststore.location={trust}\n");
    ClientSecurity::from_properties(&Properties::parse("x", &untyped)).expect("what is PEM needs no type");
    let errors = client_errors(&format!("{untyped}ssl.truststore.type=JKS\n"));
    assert!(errors.contains(&format!("ssl.truststore.type: is JKS but '{trust}' is PEM")), "{errors}");
    let text = format!("security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={trust}\n");
    let errors = client_errors(&format!("{text}ssl.truststore.password=x\n"));
    assert!(errors.contains("ssl.truststore.password: does not apply to PEM"), "{errors}");

    let locked = folder.path().join("locked.pem").display().to_string();
    let certificate = std::fs::read_to_string(&trust).unwrap();
    let key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(&locked, format!("{key}{certificate}")).unwrap();
    let keys = format!("ssl.keystore.type=PEM\nssl.keystore.location={locked}\nssl.key.password=hush\n");
    let errors = client_errors(&format!("{text}{keys}"));
    assert!(errors.contains(&format!("run 'openssl pkey -in {locked} -out key.pem")), "{errors}");

    // A key that belongs to another certificate.
    let (key, _) = ca.pem("a.example", false);
    let (_, chain) = ca.pem("b.example", false);
    let mixed = folder.path().join("mixed.pem").display().to_string();
    std::fs::write(&mixed, format!("{key}{chain}")).unwrap();
    let errors = client_errors(&format!("{text}ssl.keystore.type=PEM\nssl.keystore.location={mixed}\n"));
    assert!(errors.contains("ssl.keystore.location: key and certificate are not usable"), "{errors}");
}

#[test]
fn no_secret_in_debug() {
    let text = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=\
                org.apache.kafka.common.security.plain.PlainLoginModule required username=alice password=hush;";
    let security = ClientSecurity::from_properties(&Properties::parse("x", text)).unwrap();
    let shown = format!("{security:?}");
    assert!(shown.contains("SaslPlaintext") && !shown.contains("hush") && !shown.contains("alice"), "{shown}");
}
