<?php
// The end of a visit.
declare(strict_types=1);
require __DIR__ . '/../../lib/chat.php';

open_session();
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    check_post();
    $_SESSION = [];
    session_regenerate_id(true);
}
go('PostHome.php');
