use super::*;

#[test]
fn a_frame_comes_in_piece_by_piece() {
    let bytes = [0, 0, 0, 3, 7, 8, 9, 0xff];
    let scans: Vec<_> = (0..=bytes.len()).map(|have| scan(&bytes[..have], 3).unwrap()).collect();
    let body = |missing| Scan::NeedBody { frame_bytes: 3, missing };
    let prefix = Scan::NeedPrefix;
    let whole = Scan::Whole(3);
    assert_eq!(scans, [prefix(4), prefix(3), prefix(2), prefix(1), body(3), body(2), body(1), whole, whole]);
}

#[test]
fn lengths_are_bounded() {
    assert_eq!(scan(&[0, 0, 0, 4], 3), Err(FrameError::TooLarge { frame_bytes: 4, bytes_max: 3 }));
    assert_eq!(scan(&[0x80, 0, 0, 0], usize::MAX), Err(FrameError::Negative(i32::MIN)));
    assert_eq!(scan(&[0, 0, 0, 0], 3), Ok(Scan::Whole(0)));
    // A TLS client hello on a plain port.
    assert!(matches!(scan(&[0x16, 3, 1, 2], 104_857_600), Err(FrameError::TooLarge { .. })));
}
